//! Pictures of links: one PNG per matrix, outputs downwards, inputs to the right.
//!
//! A matrix larger than [`MOST`] is drawn in boxes of equal size; the darkness of a pixel is the share
//! of its box that is linked, relative to the fullest box. Above and left of it the links per input
//! and per output are drawn as profiles.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use super::model::sites;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::sparse::Pattern;

/// Largest width and height of the matrix in pixels.
const MOST: usize = 688;
/// Smallest: little matrices are drawn with several pixels per link.
const LEAST: usize = 256;
/// Height of a profile, and the gap around it.
const PROFILE: usize = 48;
const GAP: usize = 6;

/// Draws every sparse matrix into `folder`; returns the names of the files.
pub fn draw(c: &Checkpoint, folder: &Path) -> Result<Vec<String>> {
    std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    let tensors = c.model()?;
    let mut names = Vec::new();
    for site in sites(c) {
        let Some(pattern) = site.links(&tensors)? else { continue };
        let name = format!("{}.png", site.short);
        write(&folder.join(&name), &picture(&pattern))?;
        names.push(folder.join(&name).display().to_string());
    }
    if names.is_empty() {
        return Err(Error::Config(format!(
            "{} has no sparse matrix to draw: its method is {}",
            c.path.display(),
            c.config.method.name
        )));
    }
    Ok(names)
}

/// A grey picture.
struct Grey {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Grey {
    fn set(&mut self, x: usize, y: usize, darkness: f64) {
        self.pixels[y * self.width + x] = 255 - (255.0 * darkness.clamp(0.0, 1.0)).round() as u8;
    }
}

/// Pixels along a dimension of `n`: a divisor-free scale that never draws a link twice.
fn scale(n: usize) -> (usize, usize) {
    // (indices per box, pixels per box)
    let per_box = n.div_ceil(MOST).max(1);
    let boxes = n.div_ceil(per_box);
    (per_box, (LEAST / boxes.max(1)).max(1))
}

fn picture(p: &Pattern) -> Grey {
    // One scale for both directions: the picture has the shape of the matrix.
    let (per_box, zoom) = scale(p.rows().max(p.cols()));
    let (down, across) = (p.rows().div_ceil(per_box), p.cols().div_ceil(per_box));
    let mut boxes = vec![0u32; down * across];
    for row in 0..p.rows() {
        for &col in p.row(row) {
            boxes[(row / per_box) * across + col as usize / per_box] += 1;
        }
    }
    let edge = PROFILE + GAP;
    let (width, height) = (edge + across * zoom + GAP, edge + down * zoom + GAP);
    let mut grey = Grey { width, height, pixels: vec![255; width * height] };
    let fullest = f64::from(boxes.iter().copied().max().unwrap_or(1).max(1));
    let (mut per_row, mut per_col) = (vec![0u32; down], vec![0u32; across]);
    for (i, n) in boxes.iter().enumerate() {
        let (y, x) = (i / across, i % across);
        per_row[y] += n;
        per_col[x] += n;
        // A square root keeps single links visible beside full boxes.
        let darkness = (f64::from(*n) / fullest).sqrt();
        for dy in 0..zoom {
            for dx in 0..zoom {
                grey.set(edge + x * zoom + dx, edge + y * zoom + dy, darkness);
            }
        }
    }
    let length =
        |n: u32, most: u32| (PROFILE as f64 * f64::from(n) / f64::from(most.max(1))) as usize;
    let most = per_col.iter().copied().max().unwrap_or(1);
    for (x, n) in per_col.iter().enumerate() {
        for dy in 0..length(*n, most) {
            (0..zoom).for_each(|dx| grey.set(edge + x * zoom + dx, PROFILE - 1 - dy, 0.6));
        }
    }
    let most = per_row.iter().copied().max().unwrap_or(1);
    for (y, n) in per_row.iter().enumerate() {
        for dx in 0..length(*n, most) {
            (0..zoom).for_each(|dy| grey.set(PROFILE - 1 - dx, edge + y * zoom + dy, 0.6));
        }
    }
    frame(&mut grey, edge - 1, across * zoom + 2, down * zoom + 2);
    grey
}

/// A thin line around the matrix.
fn frame(grey: &mut Grey, at: usize, width: usize, height: usize) {
    for x in at..at + width {
        grey.set(x, at, 0.3);
        grey.set(x, at + height - 1, 0.3);
    }
    for y in at..at + height {
        grey.set(at, y, 0.3);
        grey.set(at + width - 1, y, 0.3);
    }
}

fn write(path: &Path, grey: &Grey) -> Result<()> {
    let file = File::create(path).map_err(Error::io("create", path))?;
    let mut encoder =
        png::Encoder::new(BufWriter::new(file), grey.width as u32, grey.height as u32);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    let written = encoder.write_header().and_then(|mut writer| {
        writer.write_image_data(&grey.pixels)?;
        writer.finish()
    });
    written.map_err(|e| match e {
        png::EncodingError::IoError(e) => Error::io("write", path)(e),
        other => Error::data(path, other),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_link_is_a_dark_pixel_and_nothing_else_is() {
        let p = Pattern::from_flat(3, 4, &[1, 6, 11]).unwrap();
        let g = picture(&p);
        let (edge, zoom) = (PROFILE + GAP, LEAST / 4);
        assert_eq!((g.width, g.height), (edge + 4 * zoom + GAP, edge + 3 * zoom + GAP));
        let at = |row: usize, col: usize| {
            g.pixels[(edge + row * zoom + zoom / 2) * g.width + edge + col * zoom + zoom / 2]
        };
        for row in 0..3 {
            for col in 0..4 {
                let linked = p.row(row).contains(&(col as u32));
                assert_eq!(at(row, col), if linked { 0 } else { 255 }, "({row}, {col})");
            }
        }
    }

    #[test]
    fn large_matrices_are_drawn_in_boxes() {
        let p = Pattern::full(2000, 700);
        let g = picture(&p);
        assert!(g.width <= MOST + PROFILE + 2 * GAP && g.height <= MOST + PROFILE + 2 * GAP);
        assert!(g.width < g.height, "the shape of the matrix");
    }
}
