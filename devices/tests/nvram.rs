//! A machine whose process is killed keeps every variable that its guest was told is set.

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use devices::firmware::nvram::protocol::Attributes;
use devices::firmware::nvram::{NvramFile, VariableId, Variables};
use devices::guid::Guid;
use vmm_sys_util::tempdir::TempDir;

fn id() -> VariableId {
    VariableId::new(Guid::ZERO, "Counter").unwrap()
}

const WRITER: &str = "BUSMAN_TEST_NVRAM_WRITER";

/// Not a test: the process that the next one kills. It counts in a variable, and tells each number that is kept.
#[test]
#[ignore = "runs in a process of its own"]
fn writer() {
    let Some(path) = env::var_os(WRITER) else { return };
    let (file, store) = NvramFile::open_or_create(Path::new(&path)).unwrap();
    let mut variables = Variables::new(store, Box::new(file));
    let start = variables.get(&id()).map_or(0, |variable| number(&variable.data));
    for number in start + 1.. {
        let data = number.to_le_bytes().repeat(4000);
        variables.set(&id(), Attributes::LASTING.bits(), &data).unwrap();
        writeln!(io::stdout(), "\nkept {number}").unwrap();
    }
}

fn number(data: &[u8]) -> u32 {
    u32::from_le_bytes(data[..4].try_into().unwrap())
}

#[test]
fn a_writer_killed_a_hundred_times_loses_nothing_it_acknowledged() {
    let directory = TempDir::new_with_prefix("/tmp/busman-nvram").unwrap();
    let path = directory.as_path().join("vm.nvram");
    let mut acknowledged = 0;
    for round in 0..100 {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "writer", "--ignored", "--nocapture"])
            .env(WRITER, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut text = String::new();
        while text.matches("kept ").count() < round % 7 + 1 {
            assert_ne!(output.read_line(&mut text).unwrap(), 0, "it ended by itself: {text}");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // A number that was cut in the pipe was still acknowledged, but says less than it should.
        output.read_to_string(&mut text).unwrap();
        let whole = text.rsplit_once('\n').unwrap().0;
        let told = whole.lines().rev().find_map(|line| line.strip_prefix("kept ")?.parse().ok());
        acknowledged = told.unwrap_or(acknowledged).max(acknowledged);
        let store = NvramFile::read(&path).unwrap();
        let data = &store.get(&id()).unwrap().data;
        assert!(number(data) >= acknowledged, "round {round}: {acknowledged} was acknowledged");
        assert_eq!(data, &number(data).to_le_bytes().repeat(4000));
    }
}
