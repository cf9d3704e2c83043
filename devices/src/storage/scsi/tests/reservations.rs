//! RESERVE, RELEASE and persistent reservations.

use super::*;

const A: Initiator = initiator_const(0);
const B: Initiator = initiator_const(1);
const C: Initiator = initiator_const(2);
const OBSERVER: Initiator = initiator_const(63);

const REGISTER: u8 = 0;
const RESERVE: u8 = 1;
const RELEASE: u8 = 2;
const CLEAR: u8 = 3;
const PREEMPT: u8 = 4;
const REGISTER_AND_IGNORE: u8 = 6;

/// Numbers of the types: write exclusive, exclusive access, registrants only, all registrants.
const WE: u8 = 1;
const EA: u8 = 3;
const WE_RO: u8 = 5;
const EA_RO: u8 = 6;
const WE_AR: u8 = 7;
const EA_AR: u8 = 8;

const PREEMPTED: Option<(u8, u8)> = Some((0x2A, 0x03));
const RELEASED: Option<(u8, u8)> = Some((0x2A, 0x04));
const UNREGISTERED: Option<(u8, u8)> = Some((0x2A, 0x05));

const fn initiator_const(number: u8) -> Initiator {
    match Initiator::new(number) {
        Some(initiator) => initiator,
        None => panic!("a small number"),
    }
}

/// A disk whose three initiators have been told of the power.
fn shared() -> ScsiDisk {
    let unit = unit_of(geometry());
    for initiator in [A, B, C] {
        assert_eq!(attention(&unit, initiator), Some((0x29, 0)));
    }
    unit
}

fn send(unit: &ScsiDisk, initiator: Initiator, cdb: &[u8], parameters: &[u8]) -> Reply {
    let data_len = if parameters.is_empty() { 4096 } else { parameters.len() as u32 };
    let command = Command { cdb, data_len, parameters, initiator };
    match unit.start(&command) {
        Step::Done(reply) => reply,
        Step::Io(..) => unit.finish(&command, Ok(())),
        step @ Step::Parameters(_) => panic!("{step:?}"),
    }
}

/// PERSISTENT RESERVE OUT: own key, other key.
fn out(unit: &ScsiDisk, from: Initiator, action: u8, kind: u8, keys: (u64, u64)) -> Reply {
    let list = [&keys.0.to_be_bytes()[..], &keys.1.to_be_bytes(), &[0; 8]].concat();
    send(unit, from, &[0x5F, action, kind, 0, 0, 0, 0, 0, 24, 0], &list)
}

fn good(reply: &Reply) -> bool {
    match reply.status {
        ScsiStatus::GOOD => true,
        ScsiStatus::RESERVATION_CONFLICT => false,
        _ => panic!("{reply:?}"),
    }
}

/// What the initiator is told first, and then no more.
fn attention(unit: &ScsiDisk, initiator: Initiator) -> Option<(u8, u8)> {
    let sense = data(send(unit, initiator, &[0x03, 0, 0, 0, 18, 0], &[]));
    (sense[2] == 6).then_some((sense[12], sense[13]))
}

/// PERSISTENT RESERVE IN, from one who has nothing to do with it.
fn read_in(unit: &ScsiDisk, action: u8) -> Vec<u8> {
    attention(unit, OBSERVER);
    data(send(unit, OBSERVER, &[0x5E, action, 0, 0, 0, 0, 0, 16, 0, 0], &[]))
}

fn keys(unit: &ScsiDisk) -> (u32, Vec<u64>) {
    let data = read_in(unit, 0);
    let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
    assert_eq!(number(&data[4..8]) as usize, data.len() - 8);
    (number(&data[..4]) as u32, data[8..].chunks(8).map(number).collect())
}

/// Type and key of the reservation.
fn held(unit: &ScsiDisk) -> Option<(u8, u64)> {
    let data = read_in(unit, 1);
    (data.len() == 24).then(|| (data[21], u64::from_be_bytes(data[8..16].try_into().unwrap())))
}

/// SPC-4 table 66 and SBC-3 table 13, a line for each command: `+` allowed, `-` conflict. Columns: another holds WE; EA;
/// a registrants' type, from a registrant; WE of registrants, from anybody else; EA of registrants.
const TABLE: &[(&str, &[u8])] = &[
    ("+++++", &[0x00, 0, 0, 0, 0, 0]),                   // TEST UNIT READY
    ("+++++", &[0x03, 0, 0, 0, 18, 0]),                  // REQUEST SENSE
    ("+++++", &[0x12, 0, 0, 0, 36, 0]),                  // INQUIRY
    ("+-++-", &[0x08, 0, 0, 0, 1, 0]),                   // READ
    ("+-++-", &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0]),       //
    ("+-++-", &[0xA8, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]), //
    ("+-++-", &[0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]), //
    ("+-++-", &[0x2F, 0, 0, 0, 0, 0, 0, 0, 1, 0]),       // VERIFY
    ("--+--", &[0x0A, 0, 0, 0, 1, 0]),                   // WRITE
    ("--+--", &[0x2A, 0, 0, 0, 0, 0, 0, 0, 1, 0]),       //
    ("--+--", &[0x8A, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]), //
    ("--+--", &[0x2E, 0, 0, 0, 0, 0, 0, 0, 1, 0]),       // WRITE AND VERIFY
    ("--+--", &[0x93, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]), // WRITE SAME
    ("--+--", &[0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0]),       // UNMAP
    ("--+--", &[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0]),       // SYNCHRONIZE CACHE
    ("--+--", &[0x15, 0x10, 0, 0, 0, 0]),                // MODE SELECT
    ("+-++-", &[0x1A, 0, 0x3F, 0, 255, 0]),              // MODE SENSE
    ("--+--", &[0x1D, 0x04, 0, 0, 0, 0]),                // SEND DIAGNOSTIC
    ("+++++", &[0x1B, 0, 0, 0, 1, 0]),                   // START STOP UNIT: start
    ("--+--", &[0x1B, 0, 0, 0, 0, 0]),                   // stop
    ("--+--", &[0x1B, 0, 0, 0, 0x11, 0]),                // a power condition
    ("+++++", &[0x1E, 0, 0, 0, 0, 0]),                   // ALLOW MEDIUM REMOVAL
    ("--+--", &[0x1E, 0, 0, 0, 1, 0]),                   // PREVENT
    ("+++++", &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]),       // READ CAPACITY
    ("+++++", &[0x9E, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0]),
    ("+-++-", &[0xA3, 0x0C, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0]), // REPORT SUPPORTED OPERATION CODES
    ("+++++", &[0x5E, 0, 0, 0, 0, 0, 0, 0, 255, 0]),         // PERSISTENT RESERVE IN
];

#[test]
fn who_may_do_what_is_what_the_standards_tables_say() {
    for (kind, column) in [(WE, 0), (EA, 1), (WE_RO, 3), (EA_RO, 4), (WE_AR, 3), (EA_AR, 4)] {
        let unit = shared();
        assert!(good(&out(&unit, A, REGISTER, 0, (0, 0xA))));
        assert!(good(&out(&unit, B, REGISTER, 0, (0, 0xB))));
        assert!(good(&out(&unit, A, RESERVE, kind, (0xA, 0))));
        let of_registrants = kind >= WE_RO;
        for (line, cdb) in TABLE {
            let allowed = |column: usize| line.as_bytes()[column] == b'+';
            let passes = |initiator| good(&send(&unit, initiator, cdb, &[]));
            assert!(passes(A), "the holder: type {kind}, {cdb:02x?}");
            let registrant = if of_registrants { 2 } else { column };
            assert_eq!(passes(B), allowed(registrant), "a registrant: type {kind}, {cdb:02x?}");
            assert_eq!(passes(C), allowed(column), "anybody: type {kind}, {cdb:02x?}");
        }
    }
}

#[test]
fn registering_takes_the_key_and_counts() {
    let unit = shared();
    assert_eq!(keys(&unit), (0, vec![]));
    assert!(!good(&out(&unit, A, REGISTER, 0, (1, 0xA))), "there is no key yet");
    assert!(good(&out(&unit, A, REGISTER, 0, (0, 0xA))));
    assert!(good(&out(&unit, B, REGISTER_AND_IGNORE, 0, (77, 0xB))));
    assert_eq!(keys(&unit), (2, vec![0xA, 0xB]));
    assert!(!good(&out(&unit, A, REGISTER, 0, (0xB, 1))), "not its own key");
    assert!(good(&out(&unit, A, REGISTER, 0, (0xA, 0xAA))));
    assert!(good(&out(&unit, B, REGISTER_AND_IGNORE, 0, (0, 0xBB))));
    assert_eq!(keys(&unit), (4, vec![0xAA, 0xBB]));
    assert!(good(&out(&unit, A, REGISTER, 0, (0xAA, 0))));
    assert!(good(&out(&unit, B, REGISTER_AND_IGNORE, 0, (0, 0))));
    assert_eq!(keys(&unit), (6, vec![]));
    for action in [RESERVE, RELEASE, CLEAR, PREEMPT] {
        assert!(!good(&out(&unit, A, action, WE, (0, 0))), "without a registration");
    }
    assert_eq!(keys(&unit), (6, vec![]));
}

#[test]
fn registrations_outlast_resets() {
    let unit = shared();
    assert!(good(&out(&unit, A, REGISTER, 0, (0, 0xA))));
    assert!(good(&out(&unit, A, RESERVE, WE, (0xA, 0))));
    unit.reset(Reset::Unit);
    unit.reset(Reset::Initiator(A));
    assert_eq!((keys(&unit).1, held(&unit)), (vec![0xA], Some((WE, 0xA))));
}

fn three(kind: u8) -> ScsiDisk {
    let unit = shared();
    for (initiator, key) in [(A, 0xA), (B, 0xB), (C, 0xC)] {
        assert!(good(&out(&unit, initiator, REGISTER, 0, (0, key))));
    }
    assert!(good(&out(&unit, A, RESERVE, kind, (0xA, 0))));
    unit
}

#[test]
fn reserving_again_is_good_for_the_holder_alone() {
    for kind in [WE, EA, WE_RO, EA_RO, WE_AR, EA_AR] {
        let unit = three(kind);
        let by_all = kind >= WE_AR;
        assert_eq!(held(&unit), Some((kind, if by_all { 0 } else { 0xA })));
        assert!(good(&out(&unit, A, RESERVE, kind, (0xA, 0))));
        assert_eq!(good(&out(&unit, B, RESERVE, kind, (0xB, 0))), by_all);
        let other = if kind == WE { EA } else { WE };
        assert!(!good(&out(&unit, A, RESERVE, other, (0xA, 0))));
    }
}

#[test]
fn releasing_tells_the_other_registrants() {
    for kind in [WE, EA, WE_RO, EA_RO, WE_AR, EA_AR] {
        let unit = three(kind);
        let by_all = kind >= WE_AR;
        assert!(!good(&out(&unit, A, RELEASE, kind, (0xB, 0))), "the wrong key");
        let wrong = out(&unit, A, RELEASE, if kind == WE { EA } else { WE }, (0xA, 0));
        assert_eq!(checked(&wrong), (SenseKey::IllegalRequest, 0x26, 0x04));
        assert!(
            good(&out(&unit, C, RELEASE, kind, (0xC, 0))),
            "no error, even if there is nothing to release"
        );
        assert_eq!(held(&unit).is_none(), by_all);
        if !by_all {
            assert!(good(&out(&unit, A, RELEASE, kind, (0xA, 0))));
            assert_eq!(held(&unit), None);
        }
        let told = if kind >= WE_RO { RELEASED } else { None };
        let by = if by_all { C } else { A };
        for it in [A, B, C] {
            assert_eq!(attention(&unit, it), if it == by { None } else { told }, "type {kind}, {it:?}");
        }
        assert_eq!(keys(&unit).1, [0xA, 0xB, 0xC]);
    }
}

#[test]
fn a_holder_that_unregisters_releases() {
    for kind in [WE, EA, WE_RO, EA_RO] {
        let unit = three(kind);
        assert!(good(&out(&unit, A, REGISTER, 0, (0xA, 0))));
        assert_eq!(held(&unit), None);
        assert_eq!(attention(&unit, B), if kind >= WE_RO { RELEASED } else { None });
    }
    for kind in [WE_AR, EA_AR] {
        let unit = three(kind);
        assert!(good(&out(&unit, A, REGISTER, 0, (0xA, 0))));
        assert!(good(&out(&unit, B, REGISTER_AND_IGNORE, 0, (0, 0))));
        assert_eq!(held(&unit), Some((kind, 0)), "the last registrant still holds it");
        assert!(good(&out(&unit, C, REGISTER, 0, (0xC, 0))));
        assert_eq!(held(&unit), None);
        assert_eq!([A, B, C].map(|it| attention(&unit, it)), [None; 3]);
    }
}

#[test]
fn clearing_leaves_nothing() {
    let unit = three(EA_RO);
    assert!(good(&out(&unit, B, CLEAR, 0, (0xB, 0))), "any registrant may");
    assert_eq!((keys(&unit), held(&unit)), ((4, vec![]), None));
    assert_eq!([A, B, C].map(|it| attention(&unit, it)), [PREEMPTED, None, PREEMPTED]);
}

#[test]
fn preempting_the_holder_takes_the_reservation_over() {
    let unit = three(WE_RO);
    assert!(good(&out(&unit, B, PREEMPT, EA, (0xB, 0xA))));
    assert_eq!((keys(&unit), held(&unit)), ((4, vec![0xB, 0xC]), Some((EA, 0xB))));
    assert_eq!([A, B, C].map(|it| attention(&unit, it)), [UNREGISTERED, None, RELEASED]);
    // Its own reservation, with another type.
    assert!(good(&out(&unit, B, PREEMPT, WE, (0xB, 0xB))));
    assert_eq!((keys(&unit).1, held(&unit)), (vec![0xB, 0xC], Some((WE, 0xB))));
}

#[test]
fn preempting_another_takes_only_its_registration() {
    let unit = three(WE);
    assert!(good(&out(&unit, B, PREEMPT, EA, (0xB, 0xC))));
    assert_eq!((keys(&unit), held(&unit)), ((4, vec![0xA, 0xB]), Some((WE, 0xA))));
    assert_eq!([A, B, C].map(|it| attention(&unit, it)), [None, None, UNREGISTERED]);
    assert!(!good(&out(&unit, B, PREEMPT, EA, (0xB, 0xC))), "nobody has that key");
    let reply = out(&unit, B, PREEMPT, EA, (0xB, 0));
    assert_eq!(checked(&reply), (SenseKey::IllegalRequest, 0x26, 0x00));
}

#[test]
fn preempting_all_registrants() {
    let unit = three(WE_AR);
    assert!(good(&out(&unit, B, PREEMPT, EA_AR, (0xB, 0xA))));
    assert_eq!((keys(&unit).1, held(&unit)), (vec![0xB, 0xC], Some((WE_AR, 0))));
    assert!(good(&out(&unit, B, PREEMPT, EA, (0xB, 0))));
    assert_eq!((keys(&unit).1, held(&unit)), (vec![0xB], Some((EA, 0xB))));
    assert_eq!([A, B, C].map(|it| attention(&unit, it)), [UNREGISTERED, None, UNREGISTERED]);
}

#[test]
fn preempting_a_key_of_several() {
    let unit = shared();
    for initiator in [A, C] {
        assert!(good(&out(&unit, initiator, REGISTER, 0, (0, 7))));
    }
    assert!(good(&out(&unit, B, REGISTER, 0, (0, 8))));
    assert!(good(&out(&unit, B, PREEMPT, WE, (8, 7))));
    assert_eq!((keys(&unit).1, held(&unit)), (vec![8], None));
    assert_eq!([A, B, C].map(|it| attention(&unit, it)), [UNREGISTERED, None, UNREGISTERED]);
}

#[test]
fn status_and_capabilities() {
    let unit = three(WE_RO);
    assert_eq!(read_in(&unit, 2), [0, 8, 0, 0x80, 0xEA, 0x01, 0, 0]);
    let status = read_in(&unit, 3);
    assert_eq!((status.len(), &status[..8]), (8 + 3 * 48, &[0, 0, 0, 3, 0, 0, 0, 144][..]));
    let a = &status[8..56];
    assert_eq!(a[..24], [0, 0, 0, 0, 0, 0, 0, 0xA, 0, 0, 0, 0, 1, WE_RO, 0, 0, 0, 0, 0, 1, 0, 0, 0, 24]);
    assert_eq!((a[24], &a[32..]), (4, &b"Busman  \0\0\0\0\0\0\0\0"[..]));
    let b = &status[56..104];
    assert_eq!((b[12], b[13], b[47]), (0, 0, 1));
}

#[test]
fn what_persistent_reservations_refuse() {
    let unit = shared();
    let list = |flags| {
        let mut list = [0; 24];
        (list[15], list[20]) = (0xA, flags);
        list
    };
    for (flag, bit) in [(0x01, 0), (0x04, 2), (0x08, 3)] {
        let reply = send(&unit, A, &[0x5F, REGISTER, 0, 0, 0, 0, 0, 0, 24, 0], &list(flag));
        assert_eq!(checked(&reply), (SenseKey::IllegalRequest, 0x26, 0x00));
        assert_eq!(reply.sense.unwrap().to_bytes()[15..], [0x88 | bit, 0, 20]);
    }
    let short = send(&unit, A, &[0x5F, REGISTER, 0, 0, 0, 0, 0, 0, 23, 0], &[0; 23]);
    assert_eq!(checked(&short), (SenseKey::IllegalRequest, 0x1A, 0x00));
    assert!(good(&out(&unit, A, REGISTER, 0, (0, 0xA))));
    for (kind, field) in [(0, 0xCB), (2, 0xCB), (9, 0xCB), (0x11, 0xCF)] {
        let reply = out(&unit, A, RESERVE, kind, (0xA, 0));
        assert_eq!(checked(&reply), (SenseKey::IllegalRequest, 0x24, 0x00));
        assert_eq!(reply.sense.unwrap().to_bytes()[15..], [field, 0, 2]);
    }
    for (opcode, action) in [(0x5E, 4), (0x5F, 5), (0x5F, 7), (0x5F, 8)] {
        let reply = send(&unit, A, &[opcode, action, 1, 0, 0, 0, 0, 0, 24, 0], &list(0));
        assert_eq!(checked(&reply), (SenseKey::IllegalRequest, 0x24, 0x00));
        assert_eq!(reply.sense.unwrap().to_bytes()[15..], [0xCC, 0, 1]);
    }
}

#[test]
fn reserve_keeps_others_out_until_release_or_reset() {
    for (reserve, release) in [(vec![0x16; 1], vec![0x17; 1]), (vec![0x56; 1], vec![0x57; 1])] {
        let len = if reserve[0] == 0x16 { 6 } else { 10 };
        let long = |mut cdb: Vec<u8>| {
            cdb.resize(len, 0);
            cdb
        };
        let (reserve, release) = (long(reserve), long(release));
        let unit = shared();
        let passes = |initiator, cdb: &[u8]| good(&send(&unit, initiator, cdb, &[]));
        assert!(passes(A, &reserve) && passes(A, &reserve) && !passes(B, &reserve));
        for cdb in
            [&[0; 6][..], &[0x08, 0, 0, 0, 1, 0], &[0x5E, 0, 0, 0, 0, 0, 0, 0, 8, 0], &[0x1A, 0, 8, 0, 4, 0]]
        {
            assert!(!passes(B, cdb), "{cdb:02x?}");
        }
        for cdb in [
            &[0x12, 0, 0, 0, 36, 0][..],
            &[0x03, 0, 0, 0, 18, 0],
            &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &release,
        ] {
            assert!(passes(B, cdb), "{cdb:02x?}");
        }
        assert!(passes(A, &[0; 6]) && !passes(B, &[0; 6]), "another's release has no effect");
        assert!(
            !good(&out(&unit, A, REGISTER, 0, (0, 1))),
            "the two kinds of reservation exclude each other"
        );
        assert!(passes(A, &release) && passes(B, &[0; 6]) && passes(B, &reserve) && !passes(A, &[0; 6]));
        unit.reset(Reset::Initiator(B));
        assert!(passes(A, &[0; 6]) && passes(A, &reserve));
        unit.reset(Reset::Unit);
        assert_eq!([A, B].map(|it| attention(&unit, it)), [Some((0x29, 0)); 2]);
        assert!(passes(B, &[0; 6]));
        assert!(good(&out(&unit, B, REGISTER, 0, (0, 1))));
        assert!(!passes(A, &reserve) && !passes(B, &release));
    }
}

#[test]
fn a_conflict_is_told_first_and_the_unit_attention_stays() {
    let unit = shared();
    assert!(good(&out(&unit, A, REGISTER, 0, (0, 0xA))));
    assert!(good(&out(&unit, A, RESERVE, EA, (0xA, 0))));
    unit.reset(Reset::Unit);
    assert_eq!(attention(&unit, A), Some((0x29, 0)));
    let read = [0x08, 0, 0, 0, 1, 0];
    assert!(!good(&send(&unit, B, &read, &[])));
    assert!(good(&out(&unit, A, RELEASE, EA, (0xA, 0))));
    assert_eq!(checked(&send(&unit, B, &read, &[])), (SenseKey::UnitAttention, 0x29, 0x00));
}
