//! Looks at a running VMM from outside: what it costs beyond the guest, and what KVM counted.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::wire::Sample;

/// KVM's debugfs directory: one folder per VM, named `PID-FD`.
const KVM_DEBUG: &str = "/sys/kernel/debug/kvm";

/// Samples process `id`; what cannot be read stays zero or empty.
pub fn take(id: u32) -> Sample {
    let (overhead_kib, guest_kib) =
        resident(&fs::read_to_string(format!("/proc/{id}/smaps")).unwrap_or_default());
    let threads = fs::read_dir(format!("/proc/{id}/task")).map_or(0, |tasks| tasks.count() as u64);
    Sample { overhead_kib, guest_kib, threads, kvm: kvm_counters(Path::new(KVM_DEBUG), id) }
}

/// Resident KiB that are not guest RAM, and those that are, from the text of smaps.
fn resident(smaps: &str) -> (u64, u64) {
    let (mut overhead, mut guest, mut is_guest) = (0, 0, false);
    for line in smaps.lines() {
        if let Some(rss) = line.strip_prefix("Rss:") {
            let kib: u64 = rss.trim().trim_end_matches(" kB").parse().unwrap_or(0);
            *(if is_guest { &mut guest } else { &mut overhead }) += kib;
        } else if line.split(' ').next().is_some_and(|range| range.contains('-')) {
            is_guest = line.contains("/memfd:");
        }
    }
    (overhead, guest)
}

fn kvm_counters(debugfs: &Path, id: u32) -> BTreeMap<String, u64> {
    let prefix = format!("{id}-");
    let folders = fs::read_dir(debugfs).into_iter().flatten().flatten();
    let vm = folders.filter(|folder| folder.file_name().to_string_lossy().starts_with(&prefix));
    let files = vm.filter_map(|folder| fs::read_dir(folder.path()).ok()).flatten().flatten();
    files
        .filter_map(|file| {
            let value = fs::read_to_string(file.path()).ok()?.trim().parse().ok()?;
            Some((file.file_name().to_string_lossy().into_owned(), value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_ram_is_told_from_the_rest() {
        let smaps = "\
55d0-55d8 r-xp 00000000 00:1f 1 /usr/bin/busman
Size:                  8 kB
Rss:                   8 kB
7f00-8f00 rw-s 00000000 00:01 2 /memfd:guest-ram (deleted)
Rss:                1000 kB
VmFlags: rd wr sh
8f00-8f10 rw-p 00000000 00:00 0
Rss:                  16 kB
";
        assert_eq!(resident(smaps), (24, 1000));
    }
}
