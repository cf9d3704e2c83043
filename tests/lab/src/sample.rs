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
    let host_cpu_us = host_cpu_us(&fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default());
    let mut sample = Sample { overhead_kib, guest_kib, threads, host_cpu_us, ..Sample::default() };
    sample.kvm = kvm_counters(Path::new(KVM_DEBUG), id);
    for task in fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten() {
        add_thread(&task.path(), &mut sample);
    }
    sample
}

/// CPU time of a process outside its guest, in user space and in the kernel, from its line of statistics (proc(5)).
fn host_cpu_us(stat: &str) -> u64 {
    // Linux counts in hundredths of a second there, on every machine.
    const TICK_US: u64 = 10_000;
    // The name before may have blanks and brackets in it. The first field after it is number 3.
    let fields: Vec<&str> =
        stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace().collect();
    let field = |number: usize| -> u64 { fields.get(number - 3).and_then(|f| f.parse().ok()).unwrap_or(0) };
    let (user, system, guest) = (field(14), field(15), field(43));
    (user + system).saturating_sub(guest) * TICK_US
}

/// Adds what a thread did: busman's vCPUs are called vp0, vp1, …, QEMU's CPU 0/KVM, ….
fn add_thread(task: &Path, sample: &mut Sample) {
    let read = |name: &str| fs::read_to_string(task.join(name)).unwrap_or_default();
    let name = read("comm");
    let is_vcpu = name.trim().ends_with("/KVM")
        || name.strip_prefix("vp").is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()));
    let waits = read("status");
    let waits = waits.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    let waits: u64 = waits.and_then(|count| count.trim().parse().ok()).unwrap_or(0);
    if is_vcpu {
        sample.vcpu_waits += waits;
    } else {
        let ran = read("schedstat").split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
        sample.service_us += ran / 1000;
        sample.service_waits += waits;
    }
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

    #[test]
    fn time_in_the_guest_is_not_the_hosts() {
        // Fields 3 to 13, then 14 and 15, then up to 42, then 43.
        let stat = format!("7 (a) b) {}300 40 {}250 0", "0 ".repeat(11), "0 ".repeat(27));
        assert_eq!(host_cpu_us(&stat), 900_000);
    }
}
