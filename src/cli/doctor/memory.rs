//! Memory of the machine, and of the control groups (containers, batch systems) around this process.

use std::path::{Path, PathBuf};

/// What there is, in bytes; `None` where the system does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Of the machine, in all.
    pub total: Option<u64>,
    /// Free for new work: of the machine or within the group's limit, whichever is less.
    pub available: Option<u64>,
    /// The tightest limit of a control group around this process.
    pub limit: Option<u64>,
}

impl Memory {
    /// As it is now.
    pub fn now() -> Self {
        Self::read(Path::new("/"))
    }

    /// With `proc` and `sys` under `root`.
    fn read(root: &Path) -> Self {
        let text = std::fs::read_to_string(root.join("proc/meminfo")).unwrap_or_default();
        let field = |name: &str| {
            let line = text.lines().find_map(|l| l.strip_prefix(name))?;
            line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kb| kb * 1024)
        };
        let (total, machine) = (field("MemTotal:"), field("MemAvailable:"));
        let groups = groups(root);
        // Version 1 writes "no limit" as a number beyond any machine's memory.
        let limits = groups.iter().filter(|g| total.is_none_or(|total| g.limit < total));
        let left = limits.clone().map(|g| g.limit.saturating_sub(g.used)).min();
        Memory {
            total,
            available: machine.into_iter().chain(left).min(),
            limit: limits.map(|g| g.limit).min(),
        }
    }
}

/// A control group with a limit.
struct Group {
    limit: u64,
    /// Without files that the kernel has read and can drop at once.
    used: u64,
}

/// Names of a version's files.
struct Files {
    limit: &'static str,
    used: &'static str,
    /// Line of `memory.stat` with the bytes of files that have not been read lately.
    cached: &'static str,
}

const V1: Files = Files {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    cached: "total_inactive_file ",
};
const V2: Files = Files { limit: "memory.max", used: "memory.current", cached: "inactive_file " };

/// Every group with a limit, from this process's own up to the outermost.
fn groups(root: &Path) -> Vec<Group> {
    let text = std::fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut found = Vec::new();
    // Lines such as "0::/user.slice" (version 2) and "4:memory:/docker/1f" (version 1).
    for line in text.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (base, files) = match controllers {
            "" => (root.join("sys/fs/cgroup"), &V2),
            c if c.split(',').any(|c| c == "memory") => (root.join("sys/fs/cgroup/memory"), &V1),
            _ => continue,
        };
        // In a container the path may be the host's, of which only the last part is there, as `base`.
        let mut dir = base.join(path.trim_start_matches('/'));
        if path.contains("..") {
            dir.clone_from(&base);
        }
        let above = dir.ancestors().take_while(|d| d.starts_with(&base)).map(Path::to_path_buf);
        found.extend(above.filter_map(|dir| group(dir, files)));
    }
    found
}

fn group(dir: PathBuf, files: &Files) -> Option<Group> {
    let text = |name: &str| std::fs::read_to_string(dir.join(name)).ok();
    let number = |name: &str| text(name)?.trim().parse::<u64>().ok();
    let stat = text("memory.stat").unwrap_or_default();
    let cached = stat.lines().find_map(|l| l.strip_prefix(files.cached)?.trim().parse().ok());
    let used = number(files.used).unwrap_or(0).saturating_sub(cached.unwrap_or(0));
    number(files.limit).map(|limit| Group { limit, used })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1_000_000_000;

    /// A machine of 64 GB with 40 GB free, and these files.
    fn machine(files: &[(&str, &str)]) -> Memory {
        let tmp = tempfile::tempdir().unwrap();
        let info = "MemTotal:       62500000 kB\nMemFree: 1 kB\nMemAvailable:   39062500 kB\n";
        for (name, text) in [("proc/meminfo", info)].iter().chain(files) {
            let path = tmp.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Memory::read(tmp.path())
    }

    #[test]
    fn the_tightest_group_counts() {
        let free = Memory { total: Some(64 * GB), available: Some(40 * GB), limit: None };
        assert_eq!(machine(&[]), free);
        let own = ("proc/self/cgroup", "1:name=systemd:/a\n0::/a/b\n");
        let unlimited = [own, ("sys/fs/cgroup/a/b/memory.max", "max\n")];
        assert_eq!(machine(&unlimited), free);
        let above = [
            own,
            ("sys/fs/cgroup/a/b/memory.max", "12000000000\n"),
            ("sys/fs/cgroup/a/b/memory.current", "1000000000\n"),
            ("sys/fs/cgroup/a/memory.max", "8000000000\n"),
            ("sys/fs/cgroup/a/memory.current", "5000000000\n"),
            ("sys/fs/cgroup/a/memory.stat", "anon 7\ninactive_file 2000000000\n"),
        ];
        let limited = Memory { available: Some(5 * GB), limit: Some(8 * GB), ..free };
        assert_eq!(machine(&above), limited);
        // The group is full of the machine's own: what the machine has left is less.
        let busy = [own, ("sys/fs/cgroup/a/memory.max", "50000000000\n")];
        assert_eq!(machine(&busy), Memory { limit: Some(50 * GB), ..free });
    }

    #[test]
    fn version_1_and_paths_of_the_host() {
        let files = [
            ("proc/self/cgroup", "4:cpu,memory:/docker/1f\n0::/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "4000000000\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "3500000000\n"),
            (
                "sys/fs/cgroup/memory/memory.stat",
                "inactive_file 1\ntotal_inactive_file 500000000\n",
            ),
        ];
        let m = machine(&files);
        assert_eq!((m.limit, m.available), (Some(4 * GB), Some(GB)));
        let none = [files[0], (files[1].0, "9223372036854771712\n")];
        assert_eq!(machine(&none).limit, None);
    }
}
