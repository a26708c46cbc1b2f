//! Every planted mistake is named, with its place, in three orders of lanes.

use chtsl_emulation as emulation;

use crate::planted::{Planted, family, orders};

fn demand_all(name: &str) {
    let wrong: Vec<String> = family(name)
        .iter()
        .flat_map(|planted| orders().map(|o| demand(planted, o)))
        .flatten()
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is wrong with the report of one mistake.
fn demand(planted: &Planted, options: emulation::Options) -> Option<String> {
    emulation::clear_fault();
    let (status, _) = planted.run(options);
    let complain = |what: &str| Some(format!("{} ({:?}): {what}", planted.kernel, options.order));
    let Some(fault) = emulation::last_fault() else {
        return complain(&format!("no fault, status {status}"));
    };
    if status == 0 {
        return complain("the launch claims success");
    }
    if !planted.kinds.contains(&fault.kind)
        || !fault.text.starts_with(&fault.kind) && planted.kinds[0] == "bad launch"
    {
        return complain(&format!("expected {:?}, got {fault}", planted.kinds));
    }
    if !fault.text.contains(&planted.kernel) {
        return complain(&format!("the kernel is not named: {fault}"));
    }
    let lines = planted.lines();
    let placed = lines.iter().any(|line| {
        let place = format!("{}:{line}", planted.file);
        fault.text.match_indices(&place).any(|(at, _)| {
            !fault.text[at + place.len()..].starts_with(|c: char| c.is_ascii_digit())
        })
    });
    if !placed {
        return complain(&format!("no place in {}:{lines:?}: {fault}", planted.file));
    }
    None
}

#[test]
fn barriers() {
    demand_all("barriers");
}

#[test]
fn warp_collectives() {
    demand_all("warps");
}

#[test]
fn shared_memory() {
    demand_all("shared");
}

#[test]
fn asynchronous_copies() {
    demand_all("copies");
}

#[test]
fn global_memory_and_launches() {
    demand_all("global");
}

#[test]
fn the_first_fault_stays_until_it_is_cleared() {
    let barrier = &family("barriers")[0];
    let sound = &family("sound")[0];
    emulation::clear_fault();
    assert_eq!(barrier.run(emulation::Options::default()).0, emulation::LAUNCH_FAILURE);
    let fault = emulation::last_fault().unwrap();
    assert_eq!(sound.run(emulation::Options::default()).0, 0, "a launch after a fault");
    assert_eq!(emulation::last_fault(), Some(fault));
    emulation::clear_fault();
    assert_eq!(emulation::last_fault(), None);
}
