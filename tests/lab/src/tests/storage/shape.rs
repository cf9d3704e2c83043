//! What disks there are and what they are like: many of them, read-only ones, large sectors, DVDs; and such as come
//! and go while the guest runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Kind, disk, task, with_disks};
use crate::disk::{Cache, Disk};
use crate::lab::Lab;
use crate::storage;
use crate::vm::Outcome;

/// An empty raw image.
fn raw(lab: &mut Lab, path: &Path, kib: u64) -> Result<Disk> {
    lab.sh("truncate -s \"$2\" \"$1\"", &[&path.display().to_string(), &format!("{kib}K")])?;
    Ok(Disk::new(path, "raw"))
}

/// Every LUN of a controller and the last one of three others; each disk's size tells which one it is.
pub fn many(lab: &mut Lab) -> Result<()> {
    let folder = storage::scratch(lab)?;
    let places = (0..64).map(|lun| (0, lun)).chain((1..4).map(|controller| (controller, 63)));
    let mut disks = Vec::new();
    let mut words = Vec::new();
    for (controller, lun) in places {
        let path = folder.join(format!("{controller}-{lun}.img"));
        words.extend([path.display().to_string(), format!("{}K", kib(controller, lun))]);
        disks.push(Disk::new(&path, "raw").at(controller, lun));
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    lab.sh("while [ $# -gt 0 ]; do truncate -s \"$2\" \"$1\"; shift 2; done", &words)?;
    let outcome = with_disks(lab, &disks, |vm| {
        task(vm, "with 0:63")?;
        (1..4).try_for_each(|controller| task(vm, &format!("with {controller}:63")))?;
        task(vm, "disks")
    })?;
    let hosts: Vec<&str> = outcome.value("hosts")?.split_whitespace().collect();
    ensure!(hosts.len() == 4, "the guest sees {} controllers", hosts.len());
    let mut seen = 0;
    for line in outcome.said("value").filter_map(|line| line.strip_prefix("disk=")) {
        let (address, rest) = line.split_once(' ').context("no size")?;
        let parts: Vec<&str> = address.split(':').collect();
        let [host, _, _, lun] = parts[..] else { anyhow::bail!("{address} is no address") };
        let controller = hosts.iter().position(|known| *known == host).context("an unknown controller")?;
        let bytes = kib(u32::try_from(controller)?, lun.parse()?) * 1024;
        ensure!(rest.starts_with(&format!("{bytes} 512 ")), "disk {controller}:{lun} is {rest}, not {bytes}");
        seen += 1;
    }
    ensure!(seen == disks.len(), "the guest sees {seen} of {} disks", disks.len());
    Ok(())
}

/// A size for each place.
fn kib(controller: u32, lun: u32) -> u64 {
    1024 + 4 * u64::from(controller * 64 + lun)
}

/// Requests per second of a disk with a limit. It may be ahead of it by those of one second.
const IOPS: u64 = 50;

/// KiB per second of another.
const KIB: u64 = 1024;

/// Each disk is as its options say.
pub fn options(lab: &mut Lab) -> Result<()> {
    let folder = storage::scratch(lab)?;
    let readonly = raw(lab, &folder.join("readonly.img"), 4096)?.readonly();
    let large = raw(lab, &folder.join("large.img"), 96 << 10)?.with(",sector=4096").at(0, 1);
    let slow = raw(lab, &folder.join("slow.img"), 4096)?.with(&format!(",iops={IOPS}")).at(0, 2);
    let narrow = raw(lab, &folder.join("narrow.img"), 4096)?.with(&format!(",bandwidth={KIB}K")).at(0, 3);
    let careless = raw(lab, &folder.join("unsafe.img"), 16 << 10)?.cache(Cache::Unsafe).at(0, 4);
    let before = sum(lab, readonly.path())?;
    let outcome = with_disks(lab, &[readonly.clone(), large, slow, narrow, careless], |vm| {
        task(vm, "refuses 0:0")?;
        task(vm, &format!("fio 0:2 randread 4k 32 {} 4", 4 * IOPS))?;
        task(vm, &format!("fio 0:3 read 64k 8 {} 4", 4 * KIB / 64))?;
        task(vm, "pattern 0:4 4k-64k 8 4")?;
        task(vm, "fill 0:2 1")?;
        task(vm, "commands 0:2")?;
        task(vm, "queue 0:1")?;
        task(vm, "tree 0:1 300")?;
        task(vm, "pattern 0:1 4k-64k 8 4")?;
        task(vm, "disks")
    })?;
    let times: Vec<u64> = outcome
        .said("value")
        .filter_map(|line| line.strip_prefix("fio=")?.split_once(" ms=")?.1.parse().ok())
        .collect();
    let [requests, bytes] = times[..] else { anyhow::bail!("fio gives no times: {times:?}") };
    ensure!(requests > 2000, "{} requests took {requests} ms with a limit of {IOPS} a second", 4 * IOPS);
    ensure!(bytes > 2000, "{} KiB took {bytes} ms with a limit of {KIB} a second", 4 * KIB);
    expect(&outcome, "logical_block_size", "4096")?;
    expect(&outcome, "files", "300")?;
    let lines: Vec<&str> = outcome.said("value").filter(|line| line.starts_with("disk=")).collect();
    let is_readonly =
        |lun: &str| lines.iter().any(|line| line.contains(&format!(":{lun} ")) && line.ends_with("ro=1"));
    ensure!(is_readonly("0") && !is_readonly("1"), "disks are not read-only as they should be: {lines:?}");
    ensure!(sum(lab, readonly.path())? == before, "a read-only disk was changed");
    Ok(())
}

/// ISOs with a few files, made by another program: the guest reads the first, takes it out, reads the second, which
/// the host put in, and notices when the host takes that out.
pub fn dvd(lab: &mut Lab) -> Result<()> {
    let folder = storage::scratch(lab)?;
    let mut disc = |name: &str| -> Result<(PathBuf, String)> {
        let iso = folder.join(format!("{name}.iso"));
        let files = folder.join(name);
        let sums = lab.sh(MAKE_ISO, &[&files.display().to_string(), &iso.display().to_string()])?;
        Ok((iso, sums))
    };
    let (first, second) = (disc("first")?, disc("second")?);
    let outcome = with_disks(lab, &[Disk::dvd(&first.0)], |vm| {
        task(vm, "dvd 0:0")?;
        task(vm, "eject 0:0")?;
        vm.control(&format!("insert 0:0 {}", second.0.display()))?;
        task(vm, "dvd 0:0")?;
        vm.control("eject 0:0")?;
        task(vm, "empty 0:0")
    })?;
    let read: Vec<&str> = outcome.said("value").filter_map(|line| line.strip_prefix("file=")).collect();
    let written: Vec<&str> = first.1.lines().chain(second.1.lines()).collect();
    ensure!(!read.is_empty() && read == written, "files on the DVDs differ: {read:?} {written:?}");
    Ok(())
}

/// Makes files in folder $1 and the ISO $2 of them; says their checksums.
const MAKE_ISO: &str = "
    set -e
    mkdir \"$1\"
    cd \"$1\"
    head -c 3000000 /dev/urandom >large.bin
    head -c 1 /dev/urandom >small.bin
    genisoimage -quiet -R -o \"$2\" .
    find . -type f | LC_ALL=C sort | xargs sha256sum
";

/// A disk that comes is there at once and works; one that goes is gone at once, and its neighbour goes on. The same
/// with a controller that comes with its disk, and goes after it.
pub fn hot(lab: &mut Lab) -> Result<()> {
    let folder = storage::scratch(lab)?;
    let first = disk(lab, &folder, Kind::Raw, 48)?;
    let second = disk(lab, &folder, Kind::Dynamic, 48)?.at(0, 9);
    let elsewhere = second.clone().at(2, 5);
    with_disks(lab, &[first], |vm| {
        task(vm, "without 0:9")?;
        for _ in 0..3 {
            vm.control(&format!("add disk {}", second.words()))?;
            task(vm, "with 0:9")?;
            task(vm, "pattern 0:9 4k-64k 8 4")?;
            vm.control("remove disk 0:9")?;
            task(vm, "without 0:9")?;
        }
        for _ in 0..2 {
            vm.control(&format!("add disk {}", elsewhere.words()))?;
            // The guest counts the controllers that it sees.
            task(vm, "with 1:5")?;
            task(vm, "pattern 1:5 4k-64k 8 4")?;
            vm.control("remove disk 2:5")?;
            task(vm, "without 1:5")?;
            // The guest has more to do than what its files show.
            vm.run_for(Duration::from_secs(3))?;
            vm.control("remove scsi2")?;
        }
        task(vm, "tree 0:0 300")
    })?;
    Ok(())
}

/// A file's checksum.
fn sum(lab: &mut Lab, path: &Path) -> Result<String> {
    lab.sh("sha256sum \"$1\"", &[&path.display().to_string()])
}

fn expect(outcome: &Outcome, name: &str, wanted: &str) -> Result<()> {
    let value = outcome.value(name)?;
    ensure!(value == wanted, "the guest's {name} is {value:?} instead of {wanted:?}");
    Ok(())
}
