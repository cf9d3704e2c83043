//! Hives as they are written; those that are ignored have other people's programs read them (`cargo lab test` runs
//! them).

use std::fs;
use std::process::Command as Program;

use clap::Parser;
use vmm_sys_util::tempdir::TempDir;

use super::hive::{HiveError, check, write};
use super::key::{Kind, VALUE_NAME_MAX};
use super::*;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    imc: Imc,
}

fn directory() -> TempDir {
    TempDir::new_with_prefix("/tmp/busman-imc").unwrap()
}

/// Runs a command line; an `@` is the directory.
fn imc(directory: &TempDir, arguments: &[&str]) -> Result<(), String> {
    let root = directory.as_path().to_str().unwrap();
    let arguments = arguments.iter().map(|argument| argument.replace('@', root));
    let cli =
        Cli::try_parse_from(["imc".to_owned()].into_iter().chain(arguments)).map_err(|e| e.to_string())?;
    cli.imc.execute().map_err(|error| format!("{:#}", anyhow::Error::from(error)))
}

/// Every kind of value, names of every kind, and more keys than one list has.
fn example() -> Key {
    let mut root = ascii_example();
    let values = root.at(["SYSTEM", "Values"]);
    values.set("Größe 💾", Value::text("ü"));
    values.set("Orte", Value::texts(&["Köln", "東京"]));
    root.at(["SYSTEM", "Schlüssel", "Unter 💾"]).set("x", Value::number(1));
    root
}

/// The same for readers that know no letters but ASCII's.
fn ascii_example() -> Key {
    let mut root = Key::default();
    root.set("Sequence", Value::number(2));
    let values = root.at(["SYSTEM", "Values"]);
    values.set("", Value::text("default"));
    values.set("Number", Value::number(0xffee_ddcc));
    values.set("Texts", Value::texts(&["RpcSs", "b"]));
    for len in [0, 1, 3, 4, 5, 4000, key::DATA_MAX] {
        values.set(&format!("Bytes{len}"), Value { kind: Kind::BINARY, data: vec![0xa5; len] });
    }
    values.set(&"v".repeat(VALUE_NAME_MAX / 8), Value::number(1));
    for number in 0..1500 {
        root.at(["SYSTEM", "Many", &format!("Key{number}")]).set("Number", Value::number(number));
    }
    root.at((0..DEEP).map(|_| "SYSTEM")).set("Deep", Value::number(1));
    root
}

/// Perl warns of a hundred calls within each other.
const DEEP: usize = 90;

#[test]
fn a_written_hive_is_one_and_the_same_keys_give_the_same_bytes() {
    let hive = write(&example()).unwrap();
    assert_eq!(check(&hive), Ok(()));
    assert_eq!(write(&example()).unwrap(), hive);
    assert_eq!(check(&write(&Key::default()).unwrap()), Ok(()), "one without keys");
}

#[test]
fn cells_fill_their_bins_and_none_lies_in_two() {
    let hive = write(&example()).unwrap();
    let word = |at: usize| u32::from_le_bytes(hive[at..at + 4].try_into().unwrap());
    assert_eq!(word(40) as usize, hive.len() - 4096);
    let mut bin = 4096;
    while bin < hive.len() {
        assert_eq!((&hive[bin..bin + 4], word(bin + 4) as usize), (b"hbin".as_slice(), bin - 4096));
        let end = bin + word(bin + 8) as usize;
        assert_eq!(end % 4096, 0);
        let mut cell = bin + 32;
        while cell < end {
            let size = word(cell).cast_signed().unsigned_abs() as usize;
            assert!(size >= 8 && size.is_multiple_of(8), "{size} bytes at {cell:#x}");
            cell += size;
        }
        assert_eq!(cell, end);
        bin = end;
    }
    assert_eq!(bin, hive.len());
}

#[test]
fn what_is_no_hive_is_refused_with_the_reason() {
    let directory = directory();
    let path = directory.as_path().join("x.hiv");
    let opened = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        open(&path).map(|_| ()).map_err(|error| format!("{:#}", anyhow::Error::from(error)))
    };
    let hive = write(&example()).unwrap();
    assert_eq!(opened(&hive), Ok(()));
    let refused =
        |why: &str| Err(format!("Cannot take {} for a machine's configuration: {why}", path.display()));
    let no_hive = refused("it is not a registry hive; busman imc create makes one from a .reg file");
    assert_eq!(opened(b"Windows Registry Editor Version 5.00"), no_hive);
    assert_eq!(opened(b""), no_hive);
    for damaged in [&hive[..4], &hive[..511], &hive[..4096], &hive[..hive.len() - 1]] {
        assert_eq!(opened(damaged), refused("the registry hive is damaged"), "{} bytes", damaged.len());
    }
    let changed = |at: usize, value: u8, sum: bool| {
        let mut hive = hive.clone();
        let old = std::mem::replace(&mut hive[at], value);
        hive[508 + at % 4] ^= if sum { old ^ value } else { 0 };
        opened(&hive)
    };
    assert_eq!(changed(100, 7, false), refused("the registry hive is damaged"));
    assert_eq!(changed(4096, b'x', false), refused("the registry hive is damaged"));
    assert!(changed(4, 9, true).unwrap_err().contains("was not written to its end"));
    let large = [hive.as_slice(), &vec![0; HIVE_MAX]].concat();
    assert_eq!(opened(&large), refused("the registry hive has more than 16 MiB, which is too large"));
    fs::remove_file(&path).unwrap();
    let missing = open(&path).unwrap_err().to_string();
    assert_eq!(missing, format!("Cannot read {}", path.display()));
}

#[test]
fn settings_that_take_too_much_are_refused() {
    let mut root = Key::default();
    for number in 0..1100 {
        root.set(&number.to_string(), Value { kind: Kind::BINARY, data: vec![0; key::DATA_MAX] });
    }
    assert_eq!(write(&root), Err(HiveError::TooLarge));
}

const SETTINGS: &str =
    "Windows Registry Editor Version 5.00\n[HKEY_LOCAL_MACHINE\\SYSTEM\\Setup]\n\"Lab\"=\"yes\"\n";

#[test]
fn settings_and_services_become_a_hive() {
    let directory = directory();
    fs::write(directory.as_path().join("a.reg"), SETTINGS).unwrap();
    imc(
        &directory,
        &["create", "@/a.hiv", "--reg", "@/a.reg", "--service", "lab=cmd.exe /c D:\\lab.cmd a=b"],
    )
    .unwrap();
    let mut root = Key::default();
    root.set("Sequence", Value::number(2));
    root.at(["SYSTEM", "Setup"]).set("Lab", Value::text("yes"));
    let service = root.at(["SYSTEM", "CurrentControlSet", "Services", "lab"]);
    for (name, value) in [
        ("Type", Value::number(0x10)),
        ("Start", Value::number(2)),
        ("ErrorControl", Value::number(1)),
        ("ImagePath", Value::text("cmd.exe /c D:\\lab.cmd a=b")),
        ("DisplayName", Value::text("lab")),
        ("ObjectName", Value::text("LocalSystem")),
        ("DependOnService", Value::texts(&["RpcSs"])),
    ] {
        service.set(name, value);
    }
    let hive = open(&directory.as_path().join("a.hiv")).unwrap();
    assert_eq!(*hive, *write(&root).unwrap());
    imc(&directory, &["create", "@/a.hiv", "--reg", "@/a.reg", "--sequence", "7", "--force"]).unwrap();
    root.set("Sequence", Value::number(7));
    root.at(["SYSTEM"]).keys.remove(&"CurrentControlSet".into());
    assert_eq!(fs::read(directory.as_path().join("a.hiv")).unwrap(), write(&root).unwrap());
}

#[test]
fn mistakes_are_named_and_no_file_is_left() {
    let directory = directory();
    let hive = directory.as_path().join("a.hiv");
    fs::write(directory.as_path().join("a.reg"), "REGEDIT4").unwrap();
    let fails =
        |arguments: &[&str]| imc(&directory, &[&["create", "@/a.hiv"], arguments].concat()).unwrap_err();
    assert!(fails(&[]).starts_with("There is nothing to configure"), "{}", fails(&[]));
    assert!(fails(&["--reg", "@/b.reg"]).contains("/b.reg: No such file"));
    assert!(fails(&["--reg", "@/a.reg"]).contains("/a.reg: line 1: a registry file begins with"));
    assert!(fails(&["--service", "lab"]).contains("write NAME=COMMAND"));
    assert!(fails(&["--service", "=x"]).contains("\"\" is no name of a service"));
    assert!(fails(&["--service", "a\\b=x"]).contains("is no name of a service"));
    assert!(fails(&["--service", "lab= "]).contains("the service lab has no command"));
    assert!(!hive.exists());
    fs::write(&hive, "precious").unwrap();
    assert!(fails(&["--service", "lab=x"]).ends_with("/a.hiv exists; --force replaces it"));
    assert_eq!(fs::read(&hive).unwrap(), b"precious");
}

/// Runs one of Debian's readers of hives.
fn foreign(program: &str, arguments: &[&str]) -> String {
    // Perl is to print UTF-8.
    let output = Program::new(program).args(arguments).env("PERL_UNICODE", "S").output().expect(program);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{program} {arguments:?}: {errors}");
    text
}

/// A hive in a file.
fn file(directory: &TempDir, root: &Key) -> String {
    let path = directory.as_path().join("example.hiv");
    fs::write(&path, write(root).unwrap()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
#[ignore = "needs hivexregedit (libwin-hivex-perl)"]
fn hivex_reads_every_key_and_value() {
    let directory = directory();
    let path = file(&directory, &example());
    let text = foreign("hivexregedit", &["--export", "--prefix", "HKEY_LOCAL_MACHINE", &path, "\\"]);
    // The root comes with a backslash, which the editor's own files have not.
    let text = text.replace("[HKEY_LOCAL_MACHINE\\]", "[HKEY_LOCAL_MACHINE]");
    let mut root = Key::default();
    reg::merge(&mut root, text.as_bytes()).unwrap();
    assert!(root == example(), "{text}");
}

#[test]
#[ignore = "needs reglookup"]
fn reglookup_finds_nothing_to_complain_of() {
    let directory = directory();
    let text = foreign("reglookup", &["-s", &file(&directory, &ascii_example())]);
    assert_eq!(text.matches("/SYSTEM/Many/Key").count(), 2 * 1500);
    let keys: Vec<&str> = text.lines().filter(|line| line.contains(",KEY,")).collect();
    assert_eq!(keys.len(), 1 + DEEP + 1 + 1 + 1500);
    let administrators = "S-1-5-32-544,S-1-5-32-544,,S-1-5-18:ALLOW:";
    assert!(
        keys.iter().all(|key| key.contains(administrators) && key.contains("|S-1-5-32-545:ALLOW:QRY_VAL "))
    );
}

#[test]
#[ignore = "needs reged (chntpw)"]
fn chntpw_reads_every_key() {
    let directory = directory();
    let out = directory.as_path().join("out.reg");
    let path = file(&directory, &ascii_example());
    let text = out.to_str().unwrap();
    foreign("reged", &["-x", &path, "HKEY_LOCAL_MACHINE", "\\SYSTEM\\Many", text]);
    let text = fs::read_to_string(out).unwrap();
    assert_eq!(text.matches("\"Number\"=dword:").count(), 1500);
}
