//! The command as a user types it, on real files.

use super::*;
use clap::Parser;
use std::fs;
use std::path::Path;
use vmm_sys_util::tempdir::TempDir;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    image: Image,
}

fn parse(line: &str) -> Result<Image, clap::Error> {
    Cli::try_parse_from(format!("image {line}").split_whitespace()).map(|cli| cli.image)
}

/// What a command prints, and whether all is good; `@` is the directory.
fn image(directory: &Path, line: &str) -> Result<(String, bool), String> {
    let line = line.replace('@', &directory.display().to_string());
    let mut out = Vec::new();
    let good = parse(&line).unwrap().run(&mut out).map_err(|error| {
        let mut text = error.to_string();
        let mut next = std::error::Error::source(&error);
        while let Some(error) = next {
            text += &format!(": {error}");
            next = error.source();
        }
        text
    })?;
    Ok((String::from_utf8(out).unwrap(), good))
}

fn temporary() -> TempDir {
    TempDir::new_with_prefix("/tmp/busman-image").unwrap()
}

#[test]
fn options_that_contradict_each_other_are_usage_errors() {
    for line in [
        "create a.vhdx",
        "create --size 64 a.vhdx",
        "create --size 1G --parent b.vhdx a.vhdx",
        "create --parent b.vhdx --fixed a.vhdx",
        "create --size 1G --fixed --block-size 2M a.vhdx",
        "create --size 1G --format vmdk a.vmdk",
        "convert a.vhdx",
        "info",
        "check a b",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
    parse("create --size 64G --format vhd --block-size 512K --force --json a").unwrap();
    parse("--json convert a b --from raw --format vhd --parents /x --parents /y").unwrap();
}

#[test]
fn a_disk_is_made_described_converted_and_checked() {
    let directory = temporary();
    let root = directory.as_path();
    let (text, good) = image(root, "create --size 64M @/a.vhd").unwrap();
    assert!(good && text.contains("/a.vhd: vhd, 64 MiB, takes "), "{text}");
    let (text, _) = image(root, "info @/a.vhd").unwrap();
    assert!(text.contains("format       vhd, dynamic\nsize         64 MiB (67108864 bytes)\n"), "{text}");
    let (text, _) = image(root, "convert @/a.vhd @/b.img --json").unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&json["format"], &json["size"], &json["copied"]),
        (&"raw".into(), &67_108_864.into(), &0.into())
    );
    let (text, good) = image(root, "check @/a.vhd").unwrap();
    assert!(good && text.ends_with("/a.vhd: good\n"), "{text}");
}

#[test]
fn what_exists_is_not_replaced_without_force() {
    let directory = temporary();
    let root = directory.as_path();
    fs::write(root.join("a.img"), "mine").unwrap();
    let error = image(root, "create --size 1M @/a.img").unwrap_err();
    assert!(error.contains("/a.img: It exists; --force replaces it"), "{error}");
    assert_eq!(fs::read(root.join("a.img")).unwrap(), b"mine");
    image(root, "create --size 1M --force @/a.img").unwrap();
    assert_eq!(fs::metadata(root.join("a.img")).unwrap().len(), 1 << 20);
}

#[test]
fn damage_is_a_result_and_no_error() {
    let directory = temporary();
    let root = directory.as_path();
    image(root, "create --size 64M @/a.vhd").unwrap();
    let file = fs::File::options().write(true).open(root.join("a.vhd")).unwrap();
    file.set_len(1000).unwrap();
    let (text, good) = image(root, "check @/a.vhd --json").unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(!good && json["problems"].as_array().unwrap().len() == 1, "{text}");
    let error = image(root, "info @/a.vhd").unwrap_err();
    assert!(error.contains("/a.vhd: The image is damaged: "), "{error}");
    assert!(image(root, "check @/gone.vhd").unwrap_err().contains("No such file"));
}

#[test]
fn a_child_is_made_beside_its_parent_or_elsewhere() {
    let directory = temporary();
    let root = directory.as_path();
    fs::create_dir(root.join("vm")).unwrap();
    image(root, "create --size 64M @/base.vhdx").unwrap();
    image(root, "create --parent @/base.vhdx @/a.avhdx").unwrap();
    let (text, _) = image(root, "info @/a.avhdx").unwrap();
    assert!(text.contains("format       vhdx, differencing\nsize         64 MiB"), "{text}");
    image(root, "create --parent @/base.vhdx @/vm/b.avhdx").unwrap();
    let error = image(root, "info @/vm/b.avhdx").unwrap_err();
    assert!(error.contains("--parents DIRECTORY"), "{error}");
    let (text, good) = image(root, "check --parents @ @/vm/b.avhdx").unwrap();
    assert!(good, "{text}");
    image(root, "create --parent @/vm/b.avhdx --parents @ @/vm/c.avhdx").unwrap();
    image(root, "convert --parents @ @/vm/c.avhdx @/flat.vhdx").unwrap();
    assert!(image(root, "info @/flat.vhdx").unwrap().0.contains("vhdx, dynamic"));
    let error = image(root, "create --parent @/base.vhdx @/c.vhd").unwrap_err();
    assert!(error.contains("A vhd image has no parent"), "{error}");
}
