//! F3: a checkpoint whose files were cut, or lost their last pages, at any offset.

use chtsl::checkpoint::{self, Checkpoint};

use crate::site::Site;
use crate::{alone, count, told};

#[test]
fn torn_checkpoints_are_noticed_and_the_one_before_is_taken() {
    let _alone = alone();
    let site = Site::new();
    // An older one that is whole.
    let before = site.checkpoint.with_file_name("step-00000001");
    std::fs::create_dir(&before).unwrap();
    for entry in std::fs::read_dir(&site.checkpoint).unwrap().map(|e| e.unwrap().path()) {
        std::fs::copy(&entry, before.join(entry.file_name().unwrap())).unwrap();
    }
    let (mut tried, points) = (0, count(100, 1000));
    let files = std::fs::read_dir(&site.checkpoint).unwrap().map(|e| e.unwrap().path());
    for file in files.collect::<Vec<_>>() {
        let good = std::fs::read(&file).unwrap();
        for i in 0..points.min(good.len()) {
            let at = i * good.len() / points.min(good.len());
            let cut = good[..at].to_vec();
            let mut zeroed = good.clone();
            zeroed[at..].fill(0);
            for (how, bad) in [("cut", cut), ("zeroed", zeroed)] {
                if bad == good {
                    continue; // it ends with zeros
                }
                std::fs::write(&file, &bad).unwrap();
                let name = file.file_name().unwrap().to_str().unwrap();
                let Err(e) = Checkpoint::open(&site.checkpoint) else {
                    panic!("{name} {how} at {at} opens");
                };
                assert_eq!(e.exit_code(), 4, "{name} {how} at {at}: {e}");
                assert!(e.to_string().contains(name), "{name} {how} at {at}: {e}");
                // What `--resume auto` takes.
                let found = checkpoint::latest(&site.run).unwrap().unwrap();
                assert_eq!(found.path, before, "{name} {how} at {at}");
                tried += 1;
            }
        }
        std::fs::write(&file, &good).unwrap();
    }
    assert_eq!(checkpoint::latest(&site.run).unwrap().unwrap().path, site.checkpoint);
    told(&format!("F3: {tried} torn checkpoints, {points} offsets a file: each noticed by name"));
}
