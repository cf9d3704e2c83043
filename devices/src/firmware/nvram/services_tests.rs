//! The rules for variables without signatures, one by one.

use super::protocol::{Attributes, vendor};
use super::services::{Keep, Nowhere, Room, Variables};
use super::store::{STORE_MAX, Store};
use super::variable::{DATA_MAX, Variable, VariableId};
use crate::firmware::protocol::EfiStatus;
use crate::guid::Guid;
use std::io;

const LASTING: u32 = 7;
const BOOT_ONLY: u32 = 3;
const APPEND: u32 = 0x40;

fn variables() -> Variables {
    Variables::new(Store::new(Guid::ZERO), Box::new(Nowhere))
}

fn id(name: &str) -> VariableId {
    VariableId::new(Guid::from_bytes([0xaa; 16]), name).unwrap()
}

fn data<'a>(variables: &'a Variables, name: &str) -> Result<&'a [u8], EfiStatus> {
    variables.get(&id(name)).map(|variable| variable.data.as_slice())
}

#[test]
fn a_variable_is_set_changed_appended_to_and_deleted() {
    let mut variables = variables();
    assert_eq!(data(&variables, "A"), Err(EfiStatus::NotFound));
    variables.set(&id("A"), LASTING, b"one").unwrap();
    variables.set(&id("A"), LASTING, b"two").unwrap();
    variables.set(&id("A"), LASTING | APPEND, b" three").unwrap();
    assert_eq!(data(&variables, "A"), Ok(&b"two three"[..]));
    variables.set(&id("A"), LASTING | APPEND, b"").unwrap();
    assert_eq!(data(&variables, "A"), Ok(&b"two three"[..]), "an append of nothing does not delete");
    variables.set(&id("A"), LASTING, b"").unwrap();
    assert_eq!(variables.set(&id("A"), LASTING, b""), Err(EfiStatus::NotFound));
    variables.set(&id("A"), LASTING | APPEND, b"anew").unwrap();
    variables.set(&id("A"), 0, b"whatever").unwrap();
    assert_eq!(data(&variables, "A"), Err(EfiStatus::NotFound));
}

#[test]
fn attributes_that_make_no_sense_are_refused() {
    let mut variables = variables();
    for (attributes, status) in [
        (0x100, EfiStatus::InvalidParameter),
        (5, EfiStatus::InvalidParameter),
        (0xa7, EfiStatus::InvalidParameter),
        (0x0f, EfiStatus::Unsupported),
        (0x17, EfiStatus::Unsupported),
        (0x87, EfiStatus::Unsupported),
        (6, EfiStatus::Unsupported),
        (2, EfiStatus::Unsupported),
        (0x27, EfiStatus::SecurityViolation),
    ] {
        assert_eq!(variables.set(&id("A"), attributes, b"data"), Err(status), "{attributes:#x}");
        assert_eq!(data(&variables, "A"), Err(EfiStatus::NotFound));
    }
}

#[test]
fn attributes_of_a_variable_stay_until_it_is_deleted() {
    let mut variables = variables();
    variables.set(&id("A"), LASTING, b"data").unwrap();
    for attributes in [BOOT_ONLY, BOOT_ONLY | APPEND, 6, 2] {
        let refused = variables.set(&id("A"), attributes, b"other");
        assert_eq!(refused, Err(EfiStatus::InvalidParameter), "{attributes:#x}");
    }
    assert_eq!(variables.set(&id("A"), BOOT_ONLY, b""), Err(EfiStatus::InvalidParameter));
    assert_eq!(data(&variables, "A"), Ok(&b"data"[..]));
    variables.set(&id("A"), 0, b"").unwrap();
    variables.set(&id("A"), BOOT_ONLY, b"other").unwrap();
}

#[test]
fn the_runtime_sees_and_sets_only_what_is_for_it() {
    let mut variables = variables();
    variables.set(&id("Boot"), BOOT_ONLY, b"hidden").unwrap();
    variables.set(&id("Run"), LASTING, b"seen").unwrap();
    variables.exit_boot_services();
    variables.exit_boot_services();
    assert_eq!(data(&variables, "Boot"), Err(EfiStatus::NotFound));
    assert_eq!(variables.set(&id("Boot"), BOOT_ONLY, b"x"), Err(EfiStatus::InvalidParameter));
    assert_eq!(variables.set(&id("Boot"), 0, b""), Err(EfiStatus::NotFound));
    assert_eq!(variables.set(&id("New"), BOOT_ONLY, b"x"), Err(EfiStatus::InvalidParameter));
    assert_eq!(variables.set(&id("New"), 6, b"x"), Err(EfiStatus::InvalidParameter));
    variables.set(&id("New"), LASTING, b"x").unwrap();
    variables.set(&id("Run"), LASTING | APPEND, b"!").unwrap();
    variables.set(&id("New"), 0, b"").unwrap();
    assert_eq!(data(&variables, "Run"), Ok(&b"seen!"[..]));
    let listed = std::iter::successors(variables.next(None).ok(), |id| variables.next(Some(id)).ok());
    let listed: Vec<&VariableId> = listed.collect();
    assert!(listed.contains(&&id("Run")) && !listed.contains(&&id("Boot")), "{listed:?}");
    assert_eq!(variables.next(Some(&id("Boot"))), Err(EfiStatus::InvalidParameter));
    variables.power_on();
    assert_eq!(data(&variables, "Boot"), Ok(&b"hidden"[..]), "the next boot has it again");
}

#[test]
fn names_come_in_order_and_unknown_ones_are_refused() {
    let mut variables = variables();
    for name in ["C", "A", "B"] {
        variables.set(&id(name), LASTING, b"x").unwrap();
    }
    assert_eq!(variables.next(Some(&id("A"))), Ok(&id("B")));
    assert_eq!(variables.next(Some(&id("Aa"))), Err(EfiStatus::InvalidParameter));
    assert_eq!(variables.next(Some(&id("Z"))), Err(EfiStatus::InvalidParameter));
    let count = std::iter::successors(variables.next(None).ok(), |id| variables.next(Some(id)).ok()).count();
    assert_eq!(count, 3 + 5, "and those of the host");
}

#[test]
fn what_the_host_tells_is_read_only() {
    let mut variables = variables();
    let global = |name| VariableId::new(vendor::GLOBAL, name).unwrap();
    assert_eq!(variables.get(&global("SetupMode")).unwrap().data, [1]);
    assert_eq!(variables.get(&global("SecureBoot")).unwrap().data, [0]);
    for name in ["SetupMode", "SecureBoot"] {
        for attributes in [0, 2, 6, LASTING] {
            let refused = variables.set(&global(name), attributes, &[1]);
            assert_eq!(refused, Err(EfiStatus::WriteProtected), "{name} {attributes:#x}");
        }
    }
    let indications = VariableId::new(vendor::HYPERV, "OsLoaderIndications").unwrap();
    assert_eq!(variables.set(&indications, LASTING, &[1; 4]), Err(EfiStatus::InvalidParameter));
    variables.set(&indications, 2, &[1; 4]).unwrap();
    assert_eq!(variables.get(&indications).unwrap().data, [1; 4]);
    variables.exit_boot_services();
    assert_eq!(variables.set(&indications, 2, &[1; 4]), Err(EfiStatus::InvalidParameter));
    variables.power_on();
    assert_eq!(variables.get(&indications).unwrap().data, [0; 4]);
    assert_eq!(variables.store().iter().len(), 0, "none of it is kept");
}

#[test]
fn sizes_have_limits() {
    let mut variables = variables();
    let all = vec![1; DATA_MAX];
    variables.set(&id("A"), LASTING, &all).unwrap();
    assert_eq!(variables.set(&id("B"), LASTING, &vec![1; DATA_MAX + 1]), Err(EfiStatus::InvalidParameter));
    assert_eq!(variables.set(&id("A"), LASTING | APPEND, b"x"), Err(EfiStatus::OutOfResources));
    let mut count = 1;
    while variables.set(&id(&format!("More{count}")), LASTING, &all) == Ok(()) {
        count += 1;
    }
    assert_eq!(variables.set(&id("Last"), LASTING, &all), Err(EfiStatus::OutOfResources));
    assert_eq!(count, STORE_MAX / DATA_MAX - 1);
    let room = variables.room(LASTING).unwrap();
    assert_eq!((room.total, room.largest), (STORE_MAX, DATA_MAX));
    assert!(room.free < DATA_MAX);
    variables.set(&id("A"), LASTING, b"").unwrap();
    variables.set(&id("Last"), LASTING, &all).unwrap();
}

#[test]
fn room_is_told_for_what_can_be() {
    let mut variables = variables();
    assert_eq!(variables.room(LASTING), Ok(Room { total: STORE_MAX, free: STORE_MAX, largest: DATA_MAX }));
    for (attributes, status) in [
        (0, EfiStatus::InvalidParameter),
        (1, EfiStatus::InvalidParameter),
        (5, EfiStatus::InvalidParameter),
        (6, EfiStatus::Unsupported),
        (0xf, EfiStatus::Unsupported),
    ] {
        assert_eq!(variables.room(attributes), Err(status), "{attributes:#x}");
    }
    variables.room(BOOT_ONLY).unwrap();
    variables.exit_boot_services();
    assert_eq!(variables.room(BOOT_ONLY), Err(EfiStatus::InvalidParameter));
}

/// A disk that fails from some write on.
#[derive(Debug)]
struct Failing(u32);

impl Keep for Failing {
    fn keep(&mut self, _: &Store) -> io::Result<()> {
        self.0 = self.0.checked_sub(1).ok_or(io::ErrorKind::StorageFull)?;
        Ok(())
    }
}

#[test]
fn a_new_generation_is_kept_or_has_not_come() {
    let (one, two) = (Guid::from_bytes([1; 16]), Guid::from_bytes([2; 16]));
    let mut variables = Variables::new(Store::new(Guid::ZERO), Box::new(Failing(1)));
    variables.set_generation(Guid::ZERO).unwrap();
    variables.set_generation(one).unwrap();
    assert_eq!(variables.set_generation(two).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(variables.store().generation, one);
}

#[test]
fn what_cannot_be_kept_has_not_happened() {
    let mut variables = Variables::new(Store::new(Guid::ZERO), Box::new(Failing(2)));
    variables.set(&id("A"), LASTING, b"one").unwrap();
    variables.set(&id("A"), LASTING, b"one").unwrap();
    variables.set(&id("A"), LASTING, b"two").unwrap();
    let before = variables.store().clone();
    for (name, attributes, data) in [("A", LASTING, "three"), ("B", LASTING, "new"), ("A", 0, "")] {
        let failed = variables.set(&id(name), attributes, data.as_bytes());
        assert_eq!(failed, Err(EfiStatus::DeviceError), "{name} {data}");
        assert_eq!(variables.store(), &before);
    }
    // The first write of "one" and the change to "two" went to the disk; to write what is there did not have to.
    variables.set(&id("A"), LASTING, b"two").unwrap();
}

#[test]
fn the_host_sets_what_it_likes_within_the_limits() {
    let mut variables = variables();
    let variable = |len| Some(Variable::new(Attributes::POLICY, vec![1; len]));
    variables.change(&id("A"), variable(DATA_MAX)).unwrap();
    assert_eq!(variables.change(&id("A"), variable(DATA_MAX + 1)), Err(EfiStatus::OutOfResources));
    variables.change(&id("A"), None).unwrap();
    variables.change(&id("A"), None).unwrap();
}
