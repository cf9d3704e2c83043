//! Images against other programs: what `qemu-img` writes is read here, and what is written here `qemu-img` reads.
//!
//! `apt install qemu-utils libvhdi-utils`, then `cargo test -p devices --test images -- --ignored`.

#![expect(clippy::cast_possible_truncation, reason = "a test's numbers are small")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

use devices::disk::{CreateOptions, Format, Layout, OpenOptions, ParentRules, Zeroing, convert};
use vmm_sys_util::tempdir::TempDir;

/// Whole cylinders, so that formats which count in them have the same size.
const SIZE: u64 = 67_125_248;

struct Fixture(TempDir);

impl Fixture {
    /// A directory with `raw.img`: some data at both ends, at odd places and over the ends of blocks.
    fn new() -> Self {
        let fixture = Fixture(TempDir::new_with_prefix("/tmp/busman-qemu").unwrap());
        let raw = File::create(fixture.path("raw.img")).unwrap();
        raw.set_len(SIZE).unwrap();
        for (offset, len) in
            [(0, 512), (2_096_640, 3072), (9 << 20, 5 << 20), (33_553_920, 1024), (SIZE - 512, 512)]
        {
            let bytes: Vec<u8> = (offset..offset + len).map(|at| (at / 512 * 31 + at % 251) as u8).collect();
            raw.write_all_at(&bytes, offset).unwrap();
        }
        fixture
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.as_path().join(name)
    }

    /// Runs a program here; its output.
    fn run(&self, line: &str) -> String {
        let mut words = line.split_whitespace();
        let program = words.next().unwrap();
        let output = Command::new(program).args(words).current_dir(self.0.as_path()).output();
        let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{line}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    fn convert(&self, from: &str, to: &str, fixed: bool) {
        let target = CreateOptions { fixed, ..CreateOptions::new(self.path(to), 0) };
        convert(&OpenOptions::new(self.path(from)), &target, |_, _| ()).unwrap();
    }

    fn assert_same(&self, name: &str) {
        let image = OpenOptions { read_only: true, ..OpenOptions::new(self.path(name)) }.open().unwrap();
        assert_eq!(image.geometry().size, SIZE, "{name}");
        let mut bytes = vec![0xee; SIZE as usize];
        image.read(0, &mut bytes).unwrap();
        assert!(bytes == fs::read(self.path("raw.img")).unwrap(), "{name} differs");
    }
}

#[test]
#[ignore = "needs qemu-img"]
fn what_qemu_writes_is_read_here() {
    let fixture = Fixture::new();
    for (options, name) in [
        ("-O vpc -o subformat=dynamic", "dynamic.vhd"),
        ("-O vpc -o subformat=fixed", "fixed.vhd"),
        ("-O vpc -o subformat=dynamic,force_size=on", "exact.vhd"),
        ("-O vhdx -o subformat=dynamic", "dynamic.vhdx"),
        ("-O vhdx -o subformat=fixed", "fixed.vhdx"),
        ("-O qcow2", "a.qcow2"),
        ("-c -O qcow2", "compressed.qcow2"),
    ] {
        fixture.run(&format!("qemu-img convert -f raw {options} raw.img {name}"));
        fixture.assert_same(name);
    }
}

#[test]
#[ignore = "needs qemu-img"]
fn what_is_written_here_is_read_by_qemu() {
    let fixture = Fixture::new();
    for (name, format, fixed) in [
        ("dynamic.vhd", "vpc", false),
        ("fixed.vhd", "vpc", true),
        ("dynamic.vhdx", "vhdx", false),
        ("fixed.vhdx", "vhdx", true),
        ("a.qcow2", "qcow2", false),
        ("copy.raw", "raw", false),
    ] {
        fixture.convert("raw.img", name, fixed);
        let info = fixture.run(&format!("qemu-img info -f {format} {name}"));
        assert!(info.contains(&format!("({SIZE} bytes)")), "{info}");
        fixture.run(&format!("qemu-img compare -f raw -F {format} raw.img {name}"));
        // It has no check for the others.
        if ["vhdx", "qcow2"].contains(&format) {
            fixture.run(&format!("qemu-img check -f {format} {name}"));
        }
        if format == "vpc" {
            let info = fixture.run(&format!("vhdiinfo {name}"));
            assert!(info.contains(&format!("({SIZE} bytes)")), "{info}");
        }
        fixture.assert_same(name);
    }
}

/// QEMU takes the size of an image from a program that it does not know from its cylinders.
#[test]
#[ignore = "needs qemu-img"]
fn a_vhd_that_is_no_whole_cylinders_keeps_its_size_in_qemu() {
    let fixture = Fixture::new();
    for size in [3 << 20, (64 << 20) + 512, 100 << 30, 2040 << 30] {
        let options = CreateOptions { replace: true, ..CreateOptions::new(fixture.path("a.vhd"), size) };
        options.create().unwrap();
        let info = fixture.run("qemu-img info -f vpc a.vhd");
        assert!(info.contains(&format!("({size} bytes)")), "{info}");
    }
}

#[test]
#[ignore = "needs qemu-img"]
fn what_is_changed_here_is_read_by_qemu() {
    let fixture = Fixture::new();
    for (options, name, format) in [
        ("-O vpc -o subformat=dynamic", "a.vhd", "vpc"),
        ("-O vhdx -o subformat=dynamic", "a.vhdx", "vhdx"),
        ("-O qcow2", "a.qcow2", "qcow2"),
    ] {
        fixture.run(&format!("qemu-img convert -f raw {options} raw.img {name}"));
        let raw = File::options().write(true).open(fixture.path("raw.img")).unwrap();
        let image = OpenOptions::new(fixture.path(name)).open().unwrap();
        for (at, byte) in [(1 << 20, 1), (9 << 20, 2), (40 << 20, 3), (60 << 20, 4)] {
            image.write(at, &[byte; 3 * 512]).unwrap();
            raw.write_all_at(&[byte; 3 * 512], at).unwrap();
        }
        image.zero(11 << 20, 2 << 20, Zeroing::Free).unwrap();
        raw.write_all_at(&vec![0; 2 << 20], 11 << 20).unwrap();
        image.flush().unwrap();
        drop(image);
        fixture.run(&format!("qemu-img compare -f raw -F {format} raw.img {name}"));
        if format != "vpc" {
            fixture.run(&format!("qemu-img check -f {format} {name}"));
        }
    }
}

#[test]
#[ignore = "needs qemu-img"]
fn a_backing_file_is_opened_where_the_user_allows_it() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.path("base")).unwrap();
    fixture.run("qemu-img convert -f raw -O qcow2 raw.img base/base.qcow2");
    fixture.run("qemu-img create -q -f qcow2 -b base/base.qcow2 -F qcow2 middle.qcow2");
    fixture.run("qemu-img create -q -f qcow2 -b middle.qcow2 -F qcow2 end.qcow2");
    let options = OpenOptions::new(fixture.path("end.qcow2"));
    let error = format!("{:?}", options.open().unwrap_err());
    assert!(error.contains("Forbidden"), "{error}");
    let rules = ParentRules { directories: vec![fixture.path("base")] };
    let options = OpenOptions { parents: rules, ..options };
    let image = options.open().unwrap();
    let mut bytes = vec![0xee; SIZE as usize];
    image.read(0, &mut bytes).unwrap();
    assert!(bytes == fs::read(fixture.path("raw.img")).unwrap());
    assert!(OpenOptions::new(fixture.path("middle.qcow2")).open().is_err(), "a child reads it");
    drop(image);
    let info = options.info().unwrap();
    assert_eq!((info.format, info.layout), (Format::Qcow2, Layout::Differencing));
    assert_eq!(info.parent, Some(fs::canonicalize(fixture.path("middle.qcow2")).unwrap()));
}

#[test]
#[ignore = "needs qemu-img"]
fn qcow2_images_that_lead_elsewhere_are_refused() {
    let fixture = Fixture::new();
    fixture.run("qemu-img create -q -f qcow2 -b raw.img -F raw guess.qcow2 1M");
    // Old images do not say the format, QEMU makes none any more: here the item that says it gets another name.
    let mut bytes = fs::read(fixture.path("guess.qcow2")).unwrap();
    let item = bytes.windows(4).position(|window| window == [0xe2, 0x79, 0x2a, 0xca]).unwrap();
    bytes[item] = 0;
    fs::write(fixture.path("guess.qcow2"), bytes).unwrap();
    fixture.run("qemu-img create -q -f qcow2 -u -b /etc/hostname -F raw host.qcow2 1M");
    fixture.run("qemu-img create -q -f qcow2 -o data_file=data.raw outside.qcow2 1M");
    for (name, reason) in
        [("guess.qcow2", "does not say"), ("host.qcow2", "Forbidden"), ("outside.qcow2", "another file")]
    {
        let error = format!("{:?}", OpenOptions::new(fixture.path(name)).open().unwrap_err());
        assert!(error.contains(reason), "{name}: {error}");
    }
}
