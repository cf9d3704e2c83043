//! VHDX files against other people's programs: qemu-img and qemu-io (package qemu-utils), which know no differencing
//! files, and libvhdi (package libvhdi-utils), which does. They are ignored because not every machine has the
//! programs: `cargo test -p devices --test vhdx -- --ignored`.

#![expect(clippy::cast_possible_truncation, reason = "a test's numbers are small")]

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use devices::disk::vhdx::{self, CreateOptions, Kind, OpenOptions, Parent, ParentLocator, Vhdx, VhdxError};
use devices::disk::{Image, Zeroing};
use vmm_sys_util::tempdir::TempDir;

const MIB: u64 = 1 << 20;

/// Runs a program of others; what it says.
fn run(program: &str, arguments: &[&str]) -> String {
    let output =
        Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
    text
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Folder(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.as_path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }
}

fn create(path: &Path, options: &CreateOptions) {
    vhdx::create(&File::create_new(path).unwrap(), options).unwrap();
}

fn no_parent(_: &ParentLocator) -> Result<Parent, VhdxError> {
    Err(VhdxError::Parent("there is none".to_owned()))
}

fn open(path: &Path) -> Vhdx {
    let file = File::options().read(true).write(true).open(path).unwrap();
    Vhdx::open(file, OpenOptions::default(), no_parent).unwrap()
}

fn read_all(image: &dyn Image) -> Vec<u8> {
    let mut bytes = vec![0; image.geometry().size as usize];
    image.read(0, &mut bytes).unwrap();
    bytes
}

/// Bytes that are different everywhere.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32
    };
    (0..len.div_ceil(4)).flat_map(|_| next().to_le_bytes()).take(len).collect()
}

/// Writes and zeroes here and there; `trim` whole blocks too.
fn exercise(image: &dyn Image, model: &mut [u8], seed: u64, trim: bool) {
    let size = model.len() as u64;
    for i in 0..24_u64 {
        let random = u64::from_le_bytes(noise(seed + i, 8).try_into().unwrap());
        let sector = u64::from(image.geometry().logical_sector);
        let offset = random % size / sector * sector;
        let len = (((random >> 40) % (3 << 19)).next_multiple_of(sector) + sector).min(size - offset);
        let range = offset as usize..(offset + len) as usize;
        match i % 6 {
            4 => {
                model[range].fill(0);
                image.zero(offset, len, Zeroing::Keep).unwrap();
            }
            5 if trim => {
                let block = MIB.min(size - offset / MIB * MIB);
                let offset = offset / MIB * MIB;
                model[offset as usize..(offset + block) as usize].fill(0);
                image.zero(offset, block, Zeroing::Free).unwrap();
            }
            _ => {
                model[range.clone()].copy_from_slice(&noise(random, len as usize));
                image.write(offset, &model[range]).unwrap();
            }
        }
        if i % 7 == 0 {
            image.flush().unwrap();
        }
    }
}

/// What QEMU finds in an image.
fn as_qemu_reads(folder: &Folder, name: &str) -> Vec<u8> {
    let raw = folder.text("qemu.raw");
    run("qemu-img", &["check", "-f", "vhdx", &folder.text(name)]);
    run("qemu-img", &["convert", "-f", "vhdx", "-O", "raw", &folder.text(name), &raw]);
    let bytes = fs::read(&raw).unwrap();
    fs::remove_file(&raw).unwrap();
    bytes
}

fn same(a: &[u8], b: &[u8]) {
    assert_eq!(a.len(), b.len());
    assert_eq!(a.chunks(512).zip(b.chunks(512)).position(|(a, b)| a != b), None, "sector that differs");
}

#[test]
#[ignore = "needs qemu-img"]
fn qemu_reads_what_was_written_here() {
    for kind in [Kind::Dynamic, Kind::Fixed] {
        for block_size in [1, 2, 32, 256] {
            let folder = Folder::new();
            let mut model = vec![0; 21 * MIB as usize + 512];
            let options = CreateOptions::new(kind.clone(), model.len() as u64);
            create(&folder.path("a.vhdx"), &CreateOptions { block_size: block_size << 20, ..options });
            same(&as_qemu_reads(&folder, "a.vhdx"), &model);
            for seed in 1..3 {
                let image = open(&folder.path("a.vhdx"));
                exercise(&image, &mut model, seed, true);
                image.close().unwrap();
                same(&as_qemu_reads(&folder, "a.vhdx"), &model);
                assert_eq!(
                    vhdx::check(&File::open(folder.path("a.vhdx")).unwrap()).unwrap(),
                    Vec::<String>::new()
                );
            }
        }
    }
}

#[test]
#[ignore = "needs qemu-img"]
fn qemu_replays_the_log_of_a_killed_writer() {
    let folder = Folder::new();
    let mut model = vec![0; 21 * MIB as usize];
    let options = CreateOptions::new(Kind::Dynamic, model.len() as u64);
    create(&folder.path("a.vhdx"), &CreateOptions { block_size: 1 << 20, ..options });
    let image = open(&folder.path("a.vhdx"));
    exercise(&image, &mut model, 5, true);
    std::mem::forget(image);
    let output =
        Command::new("qemu-img").args(["check", "-f", "vhdx", &folder.text("a.vhdx")]).output().unwrap();
    assert!(!output.status.success(), "the log was not left behind");
    run("qemu-img", &["check", "-r", "all", "-f", "vhdx", &folder.text("a.vhdx")]);
    same(&as_qemu_reads(&folder, "a.vhdx"), &model);
    same(&read_all(&open(&folder.path("a.vhdx"))), &model);
}

#[test]
#[ignore = "needs qemu-img"]
fn what_qemu_wrote_is_read_here() {
    for subformat in ["dynamic", "fixed"] {
        for block_size in [1, 8, 64] {
            let folder = Folder::new();
            let mut model = noise(9, 37 * MIB as usize);
            model[3 * MIB as usize..20 * MIB as usize].fill(0);
            fs::write(folder.path("a.raw"), &model).unwrap();
            let options = format!("subformat={subformat},block_size={}", block_size * MIB);
            let (raw, name) = (folder.text("a.raw"), folder.text("a.vhdx"));
            run("qemu-img", &["convert", "-f", "raw", "-O", "vhdx", "-o", &options, &raw, &name]);
            let image = open(&folder.path("a.vhdx"));
            same(&read_all(&image), &model);
            exercise(&image, &mut model, 3, true);
            drop(image);
            same(&as_qemu_reads(&folder, "a.vhdx"), &model);
            assert_eq!(
                vhdx::check(&File::open(folder.path("a.vhdx")).unwrap()).unwrap(),
                Vec::<String>::new()
            );
        }
    }
}

/// Puts a file back to where QEMU has written the last log entry, but not yet applied it: it leaves no point between
/// at which it could be killed. The header names the log again, and the BAT is as it was before.
fn before_apply(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
    let log = number((64 << 10) + 72);
    assert_eq!(&bytes[log..log + 4], b"loge");
    let guid = bytes[log + 32..log + 48].to_vec();
    let page = number(log + 64 + 16);
    bytes[page..page + 4096].fill(0);
    for header in [64 << 10, 128 << 10] {
        bytes[header + 48..header + 64].copy_from_slice(&guid);
        bytes[header + 4..header + 8].fill(0);
        let checksum = crc32c::crc32c(&bytes[header..header + 4096]);
        bytes[header + 4..header + 8].copy_from_slice(&checksum.to_le_bytes());
    }
    fs::write(path, bytes).unwrap();
}

#[test]
#[ignore = "needs qemu-img"]
fn the_log_of_a_qemu_that_was_killed_is_replayed() {
    let folder = Folder::new();
    let name = folder.text("a.vhdx");
    run("qemu-img", &["create", "-f", "vhdx", "-o", "block_size=1M", &name, "9M"]);
    run("qemu-io", &["-f", "vhdx", "-c", "write -P 18 5M 1M", &name]);
    before_apply(&folder.path("a.vhdx"));
    let mut model = vec![0; 9 * MIB as usize];
    model[5 * MIB as usize..][..1 << 20].fill(18);
    let read_only = OpenOptions { read_only: true, ..OpenOptions::default() };
    let image = Vhdx::open(File::open(folder.path("a.vhdx")).unwrap(), read_only, no_parent).unwrap();
    assert!(image.info().was_dirty);
    same(&read_all(&image), &model);
    let image = open(&folder.path("a.vhdx"));
    same(&read_all(&image), &model);
    drop(image);
    same(&as_qemu_reads(&folder, "a.vhdx"), &model);
}

/// A chain of so many files in the folder: `0.vhdx` has no parent. No whole block becomes 0 in them: libvhdi does not
/// look at the state of such a block and shows what the parent holds.
fn chain(folder: &Folder, depth: usize, model: &mut [u8]) {
    for number in 0..=depth {
        let path = folder.path(&format!("{number}.vhdx"));
        let kind = if number == 0 {
            Kind::Dynamic
        } else {
            let parent = format!("{}.vhdx", number - 1);
            let linkage = open_chain(folder, number - 1, true).data_write_guid();
            Kind::Differencing(ParentLocator {
                linkage,
                linkage_2: None,
                relative_path: Some(format!(".\\{parent}")),
                volume_path: None,
                absolute_win32_path: Some(format!("C:\\{parent}")),
            })
        };
        create(&path, &CreateOptions { block_size: 2 << 20, ..CreateOptions::new(kind, model.len() as u64) });
        exercise(&open_chain(folder, number, false), model, number as u64 * 100, false);
    }
}

fn open_chain(folder: &Folder, number: usize, read_only: bool) -> Vhdx {
    let file =
        File::options().read(true).write(!read_only).open(folder.path(&format!("{number}.vhdx"))).unwrap();
    Vhdx::open(file, OpenOptions { read_only, ..OpenOptions::default() }, |locator| {
        assert_eq!(locator.relative_path, Some(format!(".\\{}.vhdx", number - 1)));
        let parent = open_chain(folder, number - 1, true);
        Ok(Parent { data_write_guid: parent.data_write_guid(), image: Arc::new(parent) })
    })
    .unwrap()
}

#[test]
#[ignore = "needs vhdiinfo"]
fn libvhdi_knows_a_differencing_file() {
    let folder = Folder::new();
    let mut model = vec![0; 10 * MIB as usize];
    chain(&folder, 1, &mut model);
    let text = run("vhdiinfo", &[&folder.text("1.vhdx")]);
    assert!(text.contains("Differential"), "{text}");
    let parent = open_chain(&folder, 0, true).data_write_guid().to_string();
    assert!(text.to_lowercase().contains(&parent), "{parent}: {text}");
}

/// Unmounts when the test ends.
struct Mount(PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("fusermount").arg("-u").arg(&self.0).status();
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
#[ignore = "needs vhdimount and FUSE"]
fn libvhdi_reads_a_chain_as_it_is_read_here() {
    let folder = Folder::new();
    let mut model = vec![0; 10 * MIB as usize];
    chain(&folder, 2, &mut model);
    same(&read_all(&open_chain(&folder, 2, true)), &model);
    let mount = Mount(folder.path("mount"));
    fs::create_dir(&mount.0).unwrap();
    run("vhdimount", &[&folder.text("2.vhdx"), &folder.text("mount")]);
    let mut bytes = Vec::new();
    let name = format!("vhdi{}", fs::read_dir(&mount.0).unwrap().count());
    File::open(mount.0.join(name)).unwrap().read_to_end(&mut bytes).unwrap();
    same(&bytes, &model);
}
