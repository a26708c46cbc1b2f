//! The results of a sweep as Markdown.

use std::collections::HashMap;
use std::fmt::Write;

use serde_json::Value;

use crate::train::span;

/// A table of the runs and one of the data. The best run of each group, by validation perplexity, is
/// set in bold.
pub fn markdown(all: &Value, evaluations: &[String]) -> String {
    let none = Vec::new();
    let runs = all["runs"].as_array().unwrap_or(&none);
    let mut best: HashMap<&str, (&str, f64)> = HashMap::new();
    for run in runs {
        let (Some(group), Some(name)) = (run["group"].as_str(), run["name"].as_str()) else {
            continue;
        };
        let Some(ppl) = run["summary"]["ppl"].as_f64() else { continue };
        let entry = best.entry(group).or_insert((name, ppl));
        if ppl < entry.1 {
            *entry = (name, ppl);
        }
    }
    let mut text = String::from("| run | projections | all parameters | ppl | bits/byte |");
    evaluations.iter().for_each(|e| {
        let _ = write!(text, " {e} ppl | {e} bits/byte |");
    });
    text += " wall time | tokens/s | peak memory |\n|---|---:|---:|---:|---:|";
    evaluations.iter().for_each(|_| text += "---:|---:|");
    text += "---:|---:|---:|\n";
    let number =
        |v: &Value, digits: usize| v.as_f64().map_or("-".into(), |x| format!("{x:.digits$}"));
    let millions = |x: Option<f64>| x.map_or("-".into(), |x| format!("{:.2} M", x / 1e6));
    for run in runs {
        let (name, s) = (run["name"].as_str().unwrap_or("?"), &run["summary"]);
        let winner = best.values().any(|(best, _)| *best == name);
        let name = if winner { format!("**{name}**") } else { name.to_string() };
        let p = &s["parameters"];
        let projections = ["links", "low_rank", "dense_projections"]
            .iter()
            .map(|key| p[key].as_f64())
            .sum::<Option<f64>>();
        let _ = write!(
            text,
            "| {name} | {} | {} | {} | {} |",
            millions(projections),
            millions(p["total"].as_f64()),
            number(&s["ppl"], 2),
            number(&s["bits_per_byte"], 4)
        );
        for e in evaluations {
            let e = &run["evaluations"][e];
            let _ =
                write!(text, " {} | {} |", number(&e["ppl"], 2), number(&e["bits_per_byte"], 4));
        }
        let wall = s["seconds"].as_f64();
        let wall = wall.map_or("-".into(), |x| span(std::time::Duration::from_secs_f64(x)));
        // The time is that of the last process.
        let first = s["steps"]
            .as_u64()
            .zip(s["own_steps"].as_u64())
            .map_or(0, |(all, own)| all.saturating_sub(own));
        let wall = if first > 0 { format!("{wall} from step {first}") } else { wall };
        let peak = s["peak_bytes"].as_f64().map_or("-".into(), |b| format!("{:.0} MB", b / 1e6));
        let _ = writeln!(text, " {wall} | {} | {peak} |", number(&s["tokens_per_s"], 0));
    }
    let prepared = all["prepared"].as_object().filter(|p| !p.is_empty());
    if let Some(prepared) = prepared {
        text += "\n| data | prepared in | |\n|---|---:|---|\n";
        for (name, p) in prepared {
            let said = p["said"].as_array().unwrap_or(&none);
            let said: Vec<&str> = said.iter().filter_map(Value::as_str).collect();
            let _ =
                writeln!(text, "| {name} | {} s | {} |", number(&p["seconds"], 1), said.join("; "));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_best_of_a_group_is_bold_and_what_is_missing_is_a_dash() {
        let run = |name: &str, ppl: f64| {
            json!({"name": name, "group": "dense", "summary": {"ppl": ppl, "bits_per_byte": 1.5,
                "seconds": 61.0, "tokens_per_s": 1000.4, "peak_bytes": 2e8,
                "parameters": {"links": 0, "low_rank": 0, "dense_projections": 2_000_000, "total": 3_000_000}},
                "evaluations": {"c4": {"ppl": 200.0, "bits_per_byte": 2.0}}})
        };
        let mut resumed = run("d", 40.0);
        (resumed["summary"]["steps"], resumed["summary"]["own_steps"]) = (9.into(), 4.into());
        let all = json!({"prepared": {"bpe": {"seconds": 12.0, "said": ["train: 5 documents"]}},
            "runs": [run("a", 30.0), run("b", 20.0), {"name": "c", "summary": null}, resumed]});
        let text = markdown(&all, &["c4".into()]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[3],
            "| **b** | 2.00 M | 3.00 M | 20.00 | 1.5000 | 200.00 | 2.0000 | 1 min 01 s | 1000 | 200 MB |"
        );
        assert!(lines[2].starts_with("| a |"));
        assert_eq!(lines[4], "| c | - | - | - | - | - | - | - | - | - |");
        assert!(lines[5].contains("| 1 min 01 s from step 5 |"));
        assert_eq!(lines[9], "| bpe | 12.0 s | train: 5 documents |");
        let cells = |line: &str| line.matches('|').count();
        assert!((0..6).all(|i| cells(lines[i]) == cells(lines[0])));
    }
}
