//! Which charts a set of runs gives, and the page that shows them.

use std::fmt::Write;

use super::chart::{Chart, Stroke};
use super::run::Run;
use crate::error::Result;

/// A chart with the name of its file.
#[derive(Clone, Debug)]
pub struct Figure {
    /// File name without ending.
    pub name: String,
    /// The SVG.
    pub svg: String,
}

/// All charts of these runs that have something to show.
pub fn figures(runs: &[Run]) -> Result<Vec<Figure>> {
    let mut charts: Vec<(String, Chart)> = Vec::new();
    // One curve per run.
    let mut compare = |name: &str, mut chart: Chart, curve: &dyn Fn(&Run) -> super::run::Curve| {
        let dots = matches!(name, "perplexity" | "bits-per-byte" | "turnover" | "returned");
        let stroke = if dots { Stroke::Dots } else { Stroke::Line };
        for (i, run) in runs.iter().enumerate() {
            chart.add(&run.name, curve(run), stroke, i);
        }
        charts.push((name.into(), chart));
    };
    compare("loss", Chart::new("Training loss", "nats per token"), &|r| r.train("/loss"));
    compare("perplexity", Chart::new("Validation perplexity", "perplexity").log(), &|r| {
        r.eval("/ppl")
    });
    compare("bits-per-byte", Chart::new("Validation bits per byte", "bits per byte"), &|r| {
        r.eval("/bits_per_byte")
    });
    let mut ocr = Chart::new("Overlap cancellation of q and k (mean over layers)", "OCR");
    ocr.reference = Some((0.5, "independent branches".into()));
    compare("ocr-qk", ocr, &Run::ocr_qk);
    compare("alignment", Chart::new("Alignment term (unweighted)", "value").log(), &|r| {
        r.train("/loss_align")
    });
    compare("turnover", Chart::new("Link turnover per event", "share of the links"), &|r| {
        r.events("removed", "nnz")
    });
    compare("returned", Chart::new("Removed links that return at once", "share"), &|r| {
        r.events("returned", "removed")
    });
    compare("ever-active", Chart::new("Positions ever active (ITOP)", "share"), &|r| {
        r.event_means("itop")
    });
    compare("kept-columns", Chart::new("Columns kept by 16-row panels", "share"), &|r| {
        r.event_means("kept16")
    });
    compare("speed", Chart::new("Speed", "tokens per second"), &|r| r.train("/time/tokens_per_s"));
    compare("gradient", Chart::new("Gradient norm before clipping", "norm").log(), &|r| {
        r.train("/grad_norm")
    });
    compare("learning-rate", Chart::new("Learning rate", "rate"), &|r| r.train("/lr"));
    // One chart per run, one curve per projection.
    for run in runs {
        for (group, title) in [
            ("ocr", "Overlap cancellation by projection"),
            ("rms_s", "Size of S by projection"),
            ("rms_l", "Size of L by projection"),
        ] {
            let mut chart = Chart::new(&format!("{title}: {}", run.name), group);
            if group == "ocr" {
                chart.reference = Some((0.5, "independent branches".into()));
            }
            for (i, (projection, curve)) in run.by_projection(group).into_iter().enumerate() {
                chart.add(projection, curve, Stroke::Line, i);
            }
            charts.push((format!("{}-{}", group.replace('_', "-"), run.name), chart));
        }
    }
    let drawn = charts.into_iter().filter(|(_, chart)| !chart.is_empty());
    drawn.map(|(name, chart)| Ok(Figure { name, svg: chart.svg()? })).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// One HTML page with a table of the runs and all figures in it.
pub fn page(runs: &[Run], figures: &[Figure]) -> String {
    let mut html = String::from(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>chtsl runs</title>\n\
         <style>\n\
         body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1560px; padding: 0 1rem; color: #222 }\n\
         table { border-collapse: collapse; margin: 1rem 0 } th, td { padding: .3rem .8rem; text-align: right; border-bottom: 1px solid #ddd }\n\
         th:first-child, td:first-child { text-align: left }\n\
         .figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(520px, 1fr)); gap: 1rem }\n\
         .figures svg { width: 100%; height: auto; border: 1px solid #e4e4e4 }\n\
         summary { cursor: pointer } pre { background: #f6f6f6; padding: .8rem; overflow-x: auto }\n\
         </style></head><body>\n<h1>Runs</h1>\n<table><tr>",
    );
    let columns = [
        "run",
        "method",
        "layers x hidden",
        "total sparsity",
        "learning rate",
        "updates",
        "perplexity",
        "bits per byte",
        "tokens/s (median)",
    ];
    columns.iter().for_each(|c| html += &format!("<th>{c}</th>"));
    html += "</tr>\n";
    for run in runs {
        let last = |key: &str, digits: usize| {
            let value = run.last_evaluation().and_then(|e| e[key].as_f64());
            value.map_or("-".into(), |x| format!("{x:.digits$}"))
        };
        let shape = format!("{} x {}", run.setting("model.layers"), run.setting("model.hidden"));
        let speed = run.median("/time/tokens_per_s").map_or("-".into(), |x| format!("{x:.0}"));
        let cells = [
            run.name.clone(),
            run.setting("method.name"),
            shape,
            run.setting("method.total_sparsity"),
            run.setting("train.lr"),
            run.steps().to_string(),
            last("ppl", 3),
            last("bits_per_byte", 4),
            speed,
        ];
        html += "<tr>";
        cells.iter().for_each(|c| html += &format!("<td>{}</td>", escaped(c)));
        html += "</tr>\n";
    }
    html += "</table>\n<div class=\"figures\">\n";
    for figure in figures {
        let _ = writeln!(html, "<div id=\"{}\">{}</div>", escaped(&figure.name), figure.svg);
    }
    html += "</div>\n";
    for run in runs {
        let _ = writeln!(html, "<h2>{}</h2>", escaped(&run.name));
        for (step, note) in &run.notes {
            let _ = writeln!(html, "<p>step {step}: {}</p>", escaped(note));
        }
        if !run.config.is_empty() {
            let text = run.config.to_string();
            let _ = writeln!(
                html,
                "<details><summary>configuration</summary><pre>{}</pre></details>",
                escaped(&text)
            );
        }
    }
    html + "</body></html>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_holds_every_figure_and_needs_nothing_else() {
        let row = |step: u32| {
            format!(
                "{{\"kind\":\"train\",\"step\":{step},\"loss\":{},\"loss_align\":0.1,\"lr\":0.001,\
                 \"ocr\":{{\"0.q_proj\":0.4}},\"time\":{{\"tokens_per_s\":100}}}}\n",
                4.0 / f64::from(step)
            )
        };
        let mut run = Run::parse(&(1..9).map(row).collect::<String>());
        run.name = "a<b".into();
        let figures = figures(std::slice::from_ref(&run)).unwrap();
        let names: Vec<&str> = figures.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(
            names,
            ["loss", "ocr-qk", "alignment", "speed", "learning-rate", "ocr-a<b"],
            "no chart without curves"
        );
        let html = page(&[run], &figures);
        assert_eq!(html.matches("<svg").count(), figures.len());
        assert!(html.contains("a&lt;b") && !html.contains("a<b"));
        for outside in ["src=", "href=", "@import", "<script"] {
            assert!(!html.contains(outside), "{outside}");
        }
    }
}
