//! The command as a user types it, on real files.

use super::*;
use clap::Parser;
use std::error::Error;
use vmm_sys_util::tempdir::TempDir;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    nvram: Nvram,
}

const OTHER: &str = "Private-00112233-4455-6677-8899-aabbccddeeff";

/// A directory with a file `vm.nvram`, and the command's answers or complaints; `@` is the file.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Desk(TempDir::new_with_prefix("/tmp/busman-nvram").unwrap());
        desk.run(&["reset", "--file", "@"]).unwrap();
        desk
    }

    fn file(&self) -> String {
        self.0.as_path().join("vm.nvram").display().to_string()
    }

    fn run(&self, words: &[&str]) -> Result<String, String> {
        let words = words.iter().map(|word| word.replace('@', &self.file()));
        let cli = Cli::try_parse_from(["nvram".to_owned()].into_iter().chain(words));
        let mut out = Vec::new();
        cli.map_err(|error| error.to_string())?.nvram.run(&mut out).map_err(|error| {
            let errors = std::iter::successors(Some(&error as &dyn Error), |error| (*error).source());
            errors.map(ToString::to_string).collect::<Vec<_>>().join(": ")
        })?;
        Ok(String::from_utf8(out).unwrap())
    }

    /// A command with its words separated by spaces.
    fn line(&self, line: &str) -> Result<String, String> {
        self.run(&line.split(' ').collect::<Vec<_>>())
    }
}

#[test]
fn variables_are_set_shown_and_deleted() {
    let desk = Desk::new();
    desk.line("set --file @ BootOrder --hex 02000000").unwrap();
    desk.run(&["set", "--file", "@", OTHER, "--text", "hëllo", "--attributes", "nv,bs"]).unwrap();
    let list = desk.line("list --file @").unwrap();
    let wanted = format!(
        "{OTHER}                  nv,bs            12\nBootOrder-8be4df61-93ca-11d2-aa0d-00e098032b8c  nv,bs,rt          4\n\
         2 variables, 511 KiB are free\n"
    );
    assert_eq!(list.split_whitespace().collect::<Vec<_>>(), wanted.split_whitespace().collect::<Vec<_>>());
    let order = desk.line("get --file @ BootOrder").unwrap();
    assert_eq!(
        order.lines().collect::<Vec<_>>(),
        [
            "BootOrder-8be4df61-93ca-11d2-aa0d-00e098032b8c  nv,bs,rt, 4 bytes".to_owned(),
            format!("0000  {:47}  ....", "02 00 00 00"),
        ]
    );
    assert_eq!(desk.run(&["get", "--file", "@", OTHER, "--text"]).unwrap(), "hëllo\n");
    assert_eq!(desk.line("get --file @ BootOrder --raw").unwrap().as_bytes(), [2, 0, 0, 0]);
    let json: serde_json::Value = serde_json::from_str(&desk.line("list --file @ --json").unwrap()).unwrap();
    assert_eq!(json[1]["data"], "02000000");
    assert_eq!(json[0]["attributes"], serde_json::json!(["nv", "bs"]));
    // The attributes stay those that it has.
    desk.run(&["set", "--file", "@", OTHER, "--hex", "ff"]).unwrap();
    assert!(desk.run(&["get", "--file", "@", OTHER]).unwrap().contains("nv,bs, 1 bytes"));
    desk.line("set --file @ BootOrder --delete").unwrap();
    assert!(
        desk.line("get --file @ BootOrder")
            .unwrap_err()
            .starts_with("There is no variable BootOrder-8be4df61")
    );
    assert!(desk.line("set --file @ BootOrder --delete").is_err());
    desk.line("reset --file @").unwrap();
    assert!(desk.line("list --file @").unwrap().starts_with("0 variables"));
}

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/devices/src/firmware/nvram/fixtures");

#[test]
fn signed_files_of_efitools_are_set_and_their_signatures_count() {
    let desk = Desk::new();
    let set = |name: &str, file: &str, more: &str| {
        desk.line(&format!("set --file @ {name} --auth {FIXTURES}/efitools-{file}.auth{more}"))
    };
    for (name, file) in [("db", "db"), ("KEK", "kek"), ("PK", "pk")] {
        set(name, file, "").unwrap();
    }
    let error = set("db", "db-append", "").unwrap_err();
    assert!(error.contains("has not signed exactly this") && error.contains("--append"), "{error}");
    set("db", "db-append", " --append").unwrap();
    assert!(set("db", "pk", "").is_err(), "the platform key's file is not db's");
    let list = desk.line("list --file @").unwrap();
    assert!(list.contains("PK-") && list.contains("KEK-") && list.contains("db-"), "{list}");
    assert!(desk.line("get --file @ db").unwrap().contains("signed 2026-01-02 03:04:06"));
    set("PK", "pk-delete", "").unwrap();
    assert!(!desk.line("list --file @").unwrap().contains(" PK-"));
    for line in ["set --file @ db --append --hex 00", "set --file @ db --auth x --attributes nv"] {
        assert!(desk.line(line).is_err(), "{line}");
    }
}

#[test]
fn a_template_brings_all_keys_at_once() {
    let desk = Desk::new();
    let certificate = |name: &str| {
        let der = fs::read(format!("{FIXTURES}/{name}.crt")).unwrap();
        base64::Engine::encode(&base64::prelude::BASE64_STANDARD, der)
    };
    let hash = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, [7; 32]);
    let owned = |mode: &str, owner: &[&str], dbx: &str| {
        let pk: Vec<String> = owner.iter().map(|name| certificate(name)).collect();
        let (kek, leaf) = (certificate("kek"), certificate("leaf"));
        let signatures = serde_json::json!({
            "PK": {"type": "x509", "value": pk},
            "KEK": [{"type": "x509", "value": [kek]}],
            "db": [{"type": "x509", "value": [leaf, kek]}],
            "dbx": [{"type": "sha256", "value": [dbx, hash]}],
        });
        let settings = serde_json::json!({"signatureMode": mode, "signatures": signatures});
        let root =
            serde_json::json!({"type": "Microsoft.Compute/disks", "properties": {"uefiSettings": settings}});
        fs::write(desk.0.as_path().join("keys.json"), root.to_string()).unwrap();
        let path = desk.0.as_path().join("keys.json");
        desk.run(&["secure-boot", "--file", "@", path.to_str().unwrap()])
    };
    let template = |mode: &str, dbx: &str| owned(mode, &["pk"], dbx);
    let error = template("Append", &hash).unwrap_err();
    assert!(error.contains("has the signature mode \"Append\""), "{error}");
    let error = template("Replace", "AAAA").unwrap_err();
    assert!(error.contains("something in dbx that is no SHA-256"), "{error}");
    assert!(desk.line("list --file @").unwrap().starts_with("0 variables"), "half a template sets nothing");
    let error = owned("Replace", &[], &hash).unwrap_err();
    assert!(error.contains("has no PK"), "Secure Boot would be off: {error}");
    assert!(owned("Replace", &["pk", "kek"], &hash).is_err(), "a machine has one owner");
    assert!(
        desk.line("list --file @").unwrap().starts_with("0 variables"),
        "nor does one that is refused at its end"
    );
    template("Replace", &hash).unwrap();
    let size = |name: &str| {
        let json = desk.run(&["get", "--file", "@", name, "--json"]).unwrap();
        serde_json::from_str::<serde_json::Value>(&json).unwrap()["bytes"].as_u64().unwrap()
    };
    let bytes = |name: &str| fs::metadata(format!("{FIXTURES}/{name}.crt")).unwrap().len();
    assert_eq!(size("dbx"), 28 + 2 * 48);
    assert_eq!(size("db"), 2 * 44 + bytes("leaf") + bytes("kek"));
    assert_eq!([size("PK"), size("KEK")], [44 + bytes("pk"), 44 + bytes("kek")]);
    // The firmware finds keys: db's signed update by the KEK of the template is good.
    let file = format!("{FIXTURES}/efitools-db.auth");
    desk.run(&["set", "--file", "@", "db", "--auth", &file]).unwrap();
}

#[test]
fn a_machine_has_the_uuid_that_it_was_given() {
    const UUID: &str = "00112233-4455-6677-8899-aabbccddeeff";
    let desk = Desk::new();
    let error = desk.line("uuid --file @").unwrap_err();
    assert!(error.starts_with("The machine of ") && error.contains("has no UUID yet"), "{error}");
    assert_eq!(desk.line(&format!("uuid --file @ {UUID}")).unwrap(), "");
    desk.line("reset --file @").unwrap();
    assert_eq!(desk.line("uuid --file @").unwrap(), format!("{UUID}\n"));
    assert!(desk.line("uuid --file @ 0011").unwrap_err().contains("\"0011\" is no GUID"));
}

#[test]
fn what_makes_no_sense_is_refused_with_a_sentence() {
    let desk = Desk::new();
    let too_large = desk.0.as_path().join("large");
    fs::write(&too_large, vec![0; 32 * 1024 + 1]).unwrap();
    let too_large = format!("set --file @ A --data {}", too_large.display());
    for (line, hint) in [
        ("set --file @ A --hex 00 --attributes nv,rt", "rt goes with bs"),
        ("set --file @ A --hex 00 --attributes bs,rt", "have to have nv"),
        ("set --file @ A --hex 00 --attributes nv", "make no sense"),
        ("set --file @ SecureBoot --hex 01", "the host shows it"),
        ("set --file @ PK --hex 01", "keys are lists of signatures"),
        (too_large.as_str(), "too large"),
        ("set --file @ A --data /nonexistent", "Cannot read /nonexistent, which holds the variable's data"),
        ("set --file @.not A --hex 00", "Cannot open the NVRAM file"),
        ("list --file @.not", "Cannot open the NVRAM file"),
        ("set --file @ A", "required"),
        ("set --file @ A --hex 00 --delete", "cannot be used with"),
        ("get --file @ A --raw --json", "cannot be used with"),
        ("set --file @ A --hex 0", "pairs of hexadecimal digits"),
        ("list", "--file"),
    ] {
        let error = desk.line(line).unwrap_err();
        assert!(error.contains(hint), "{line}: {error}");
    }
    assert!(desk.line("list --file @").unwrap().starts_with("0 variables"));
}

#[test]
fn a_running_machines_file_is_read_and_not_changed() {
    let desk = Desk::new();
    desk.line("set --file @ A --hex 00").unwrap();
    let machine = NvramFile::open(Path::new(&desk.file())).unwrap();
    desk.line("get --file @ A").unwrap();
    for line in ["set --file @ A --hex 01", "set --file @ A --delete", "reset --file @ --force"] {
        let error = desk.line(line).unwrap_err();
        assert!(error.contains("each machine needs its own: It is in use by this very process"), "{error}");
    }
    drop(machine);
    desk.line("set --file @ A --hex 01").unwrap();
}

#[test]
fn nothing_that_a_terminal_obeys_is_printed() {
    let desk = Desk::new();
    desk.run(&["set", "--file", "@", "A\u{1b}[2J\nB", "--text", "\u{1b}]0;x\u{7}"]).unwrap();
    let list = desk.line("list --file @").unwrap();
    let value = desk.run(&["get", "--file", "@", "A\u{1b}[2J\nB", "--text"]).unwrap();
    let columns = desk.run(&["get", "--file", "@", "A\u{1b}[2J\nB"]).unwrap();
    for text in [list, value, columns] {
        assert!(!text.contains(['\u{1b}', '\u{7}']), "{text:?}");
    }
}
