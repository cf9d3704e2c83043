//! The file: what happens to it when its writer stops at any step, and what becomes of files that are not good.
//!
//! That a writer is killed is `tests/nvram.rs`: here nothing may start a process, because for a moment it would have the
//! locks of all these files.

use super::file::{NvramError, NvramFile, Step};
use super::format;
use super::protocol::Attributes;
use super::services::Keep;
use super::store::Store;
use super::variable::{Variable, VariableId};
use crate::guid::Guid;
use std::error::Error;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use vmm_sys_util::tempdir::TempDir;

fn scratch() -> (TempDir, PathBuf) {
    let directory = TempDir::new_with_prefix("/tmp/busman-nvram").unwrap();
    let path = directory.as_path().join("vm.nvram");
    (directory, path)
}

/// A store whose variable says which it is; large enough for several writes.
fn store(number: u32) -> Store {
    let mut store = Store::new(Guid::ZERO);
    let data = number.to_le_bytes().repeat(4000);
    for name in ["Counter", "A", "B", "C", "D", "E", "F", "G", "H", "I"] {
        let id = VariableId::new(Guid::ZERO, name).unwrap();
        store.replace(&id, Some(Variable::new(Attributes::LASTING, data.clone()))).unwrap();
    }
    store
}

fn chain(error: &dyn Error) -> String {
    let sources = std::iter::successors(Some(error), |error| (*error).source());
    sources.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[test]
fn a_new_file_is_empty_private_and_of_its_own_generation() {
    let (directory, path) = scratch();
    assert!(matches!(NvramFile::open(&path), Err(NvramError::Host { .. })), "only who says so makes one");
    let (file, store) = NvramFile::open_or_create(&path).unwrap();
    assert_eq!(store.iter().len(), 0);
    assert_ne!(store.generation, Guid::ZERO);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    drop(file);
    let (_file, again) = NvramFile::open_or_create(&path).unwrap();
    assert_eq!(again, store, "the generation stays");
    assert_eq!(fs::read_dir(directory.as_path()).unwrap().count(), 1);
}

#[test]
fn a_machine_has_the_same_uuid_each_time_it_runs() {
    let (_directory, path) = scratch();
    let run = |wanted| {
        let (mut file, mut store) = NvramFile::open_or_create(&path).unwrap();
        let uuid = file.identify(&mut store, wanted).unwrap();
        assert_eq!((store.machine, NvramFile::read(&path).unwrap().machine), (Some(uuid), Some(uuid)));
        uuid
    };
    let first = run(None);
    assert_eq!(run(None), first);
    NvramFile::reset(&path, false).unwrap();
    assert_eq!(run(None), first, "it is the same machine without its variables");
    let other = Guid::from_bytes([5; 16]);
    assert_eq!([run(Some(other)), run(None)], [other; 2]);
}

/// Tries to replace a file with the steps up to `last`; whether it got to the end.
fn cut(file: &mut NvramFile, store: &Store, last: usize) -> (Vec<Step>, bool) {
    let mut steps = Vec::new();
    let outcome = file.replace(store, &mut |step| {
        if steps.len() == last {
            return Err(io::ErrorKind::Interrupted.into());
        }
        steps.push(step);
        Ok(())
    });
    (steps, outcome.is_ok())
}

#[test]
fn a_write_that_ends_at_any_step_leaves_the_old_or_the_new_store() {
    let (_directory, path) = scratch();
    let (mut file, _) = NvramFile::open_or_create(&path).unwrap();
    let (old, new) = (store(1), store(2));
    for last in 0.. {
        file.keep(&old).unwrap();
        let (steps, complete) = cut(&mut file, &new, last);
        let renamed = steps.contains(&Step::Rename);
        assert_eq!(
            NvramFile::read(&path).unwrap(),
            if renamed { new.clone() } else { old.clone() },
            "{steps:?}"
        );
        assert!(!complete || renamed);
        // The next machine finds it, whatever is left beside it.
        drop(file);
        let (next, found) = NvramFile::open(&path).unwrap();
        assert_eq!(found == new, renamed);
        file = next;
        if complete {
            assert_eq!(steps.iter().filter(|&&step| step == Step::Write).count(), 3);
            assert_eq!(steps.len(), 7);
            break;
        }
    }
}

#[test]
fn a_part_of_a_new_file_is_never_the_file() {
    let (_directory, path) = scratch();
    let (mut file, _) = NvramFile::open_or_create(&path).unwrap();
    file.keep(&store(1)).unwrap();
    let bytes = format::encode(&store(2));
    for end in [0, 1, 40, bytes.len() - 1, bytes.len()] {
        fs::write(path.with_extension("nvram.new"), &bytes[..end]).unwrap();
        assert_eq!(NvramFile::read(&path).unwrap(), store(1));
        file.keep(&store(1)).unwrap();
        assert!(!path.with_extension("nvram.new").exists());
    }
}

#[test]
fn one_file_is_one_machines_also_after_it_was_replaced() {
    let (_directory, path) = scratch();
    let (mut file, _) = NvramFile::open_or_create(&path).unwrap();
    for number in 0..3 {
        let refused = NvramFile::open(&path).unwrap_err();
        assert!(matches!(refused, NvramError::Locked { .. }), "{refused}");
        assert!(chain(&refused).contains("this very process"), "{}", chain(&refused));
        assert!(NvramFile::reset(&path, true).is_err());
        file.keep(&store(number)).unwrap();
        assert_eq!(NvramFile::read(&path).unwrap(), store(number), "a reader is welcome");
    }
    drop(file);
    NvramFile::open(&path).unwrap();
}

#[test]
fn a_damaged_file_is_named_and_left_as_it_is() {
    let (_directory, path) = scratch();
    let mut bytes = format::encode(&store(1));
    bytes[1000] ^= 1;
    for (bytes, what) in [
        (bytes, "its checksum is wrong"),
        (b"something else entirely, and longer than a header".to_vec(), "no NVRAM file"),
        (vec![], "no NVRAM file"),
    ] {
        fs::write(&path, &bytes).unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        for error in [
            NvramFile::open_or_create(&path).unwrap_err(),
            NvramFile::read(&path).unwrap_err(),
            NvramFile::reset(&path, false).unwrap_err(),
        ] {
            let text = chain(&error);
            let fix = format!("busman nvram reset --force --file {}", path.display());
            assert!(text.contains(&fix) && text.contains(what), "{text}");
        }
        assert_eq!((fs::read(&path).unwrap(), fs::metadata(&path).unwrap().ino()), (bytes, inode));
        NvramFile::reset(&path, true).unwrap();
        assert_eq!(NvramFile::open(&path).unwrap().1.iter().len(), 0);
    }
}

#[test]
fn a_later_versions_file_is_not_offered_to_be_replaced() {
    let (_directory, path) = scratch();
    let mut bytes = format::encode(&store(1));
    bytes[8] = 7;
    fs::write(&path, &bytes).unwrap();
    for error in [NvramFile::open(&path).unwrap_err(), NvramFile::reset(&path, true).unwrap_err()] {
        let text = chain(&error);
        assert!(text.contains("version 7") && !text.contains("reset"), "{text}");
    }
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn what_is_no_file_is_refused_and_a_link_stays_one() {
    let (directory, path) = scratch();
    assert!(NvramFile::open_or_create(directory.as_path()).is_err());
    assert!(NvramFile::open_or_create(Path::new("/dev/null")).is_err());
    NvramFile::reset(&path, false).unwrap();
    let link = directory.as_path().join("link");
    symlink(&path, &link).unwrap();
    let (mut file, _) = NvramFile::open_or_create(&link).unwrap();
    file.keep(&store(3)).unwrap();
    assert_eq!(NvramFile::read(&path).unwrap(), store(3));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
}
