//! Any command at all: no unit may panic, hang or move more than the guest's buffer holds.

use proptest::prelude::*;

use super::*;

/// Follows a command to its end, as a controller does.
fn follow(
    unit: &dyn Unit,
    cdb: &[u8],
    memory: &[u8],
    from: Initiator,
    outcome: Result<(), IoError>,
) -> Reply {
    let data_len = memory.len() as u32;
    let mut command = Command { cdb, data_len, parameters: &[], initiator: from };
    let mut step = unit.start(&command);
    if let Step::Parameters(wanted) = step {
        assert!((1..=65536).contains(&wanted));
        command.parameters = &memory[..wanted];
        step = unit.start(&command);
    }
    let reply = match step {
        Step::Parameters(_) => panic!("asked twice: {cdb:02x?}"),
        Step::Done(reply) => reply,
        Step::Io(disk, request) => {
            assert!(request.moves() <= data_len.into(), "{cdb:02x?}: {request:?}");
            assert!(request.moves() == 0 || disk.geometry().check(0, request.moves()).is_ok());
            unit.finish(&Command { parameters: &[], ..command }, outcome)
        }
    };
    assert!(reply.moved <= data_len, "{cdb:02x?}: {reply:?}");
    assert!(reply.data.is_empty() || reply.data.len() == reply.moved as usize, "{cdb:02x?}: {reply:?}");
    assert_eq!(reply.sense.is_some(), reply.status == ScsiStatus::CHECK_CONDITION);
    assert!(reply.sense.is_none() || reply.moved == 0);
    reply
}

fn units() -> [Box<dyn Unit>; 5] {
    let identity = || Identity::new(None, None, CONTROLLER, 0);
    let dvd = Dvd::new(identity());
    dvd.insert(disk_of(Geometry { size: 1 << 30, ..geometry() })).unwrap();
    let native = Geometry { logical_sector: 4096, ..geometry() };
    [
        Box::new(unit_of(geometry())),
        Box::new(unit_of(Geometry { read_only: true, ..geometry() })),
        Box::new(unit_of(Geometry { size: 1 << 50, ..native })),
        Box::new(Dvd::new(identity())),
        Box::new(dvd),
    ]
}

#[test]
fn every_opcode_answers_whatever_the_rest_of_its_cdb() {
    let memory = vec![0xA5; 1 << 16];
    for unit in units() {
        follow(&*unit, &[0; 6], &[], initiator(0), Ok(()));
        for opcode in 0..=255 {
            for rest in [0x00, 0xFF] {
                for len in 1..=16 {
                    let cdb = [&[opcode], &[rest; 15][..len - 1]].concat();
                    for data_len in [0, 1, 4, 8, 23, 24, 36, 255, 512, 4096, 65535, 65536] {
                        follow(&*unit, &cdb, &memory[..data_len], initiator(0), Ok(()));
                        unit.reset(Reset::Initiator(initiator(0)));
                        follow(&*unit, &[0; 6], &[], initiator(0), Ok(()));
                    }
                }
            }
        }
        follow(&*unit, &[], &memory, initiator(0), Ok(()));
    }
}

#[test]
fn allocation_lengths_cut_data_and_change_nothing_else() {
    let unit = unit();
    let drive = Dvd::new(Identity::new(None, None, CONTROLLER, 0));
    drive.insert(disk_of(Geometry { size: 1 << 30, ..geometry() })).unwrap();
    told_of_reset(&drive);
    done(&drive, &[0; 6], 0);
    let cases: [(&dyn Unit, Vec<u8>); 8] = [
        (&unit, vec![0x12, 1, 0x83, 0, 255, 0]),
        (&unit, vec![0x1A, 0, 0x3F, 0, 255, 0]),
        (&unit, vec![0x5E, 2, 0, 0, 0, 0, 0, 0, 255, 0]),
        (&unit, vec![0xA3, 0x0C, 0x80, 0, 0, 0, 0, 0, 16, 0, 0, 0]),
        (&unit, vec![0x9E, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0]),
        (&drive, vec![0x46, 0, 0, 0, 0, 0, 0, 0, 255, 0]),
        (&drive, vec![0x43, 0, 0, 0, 0, 0, 0, 0, 255, 0]),
        (&drive, vec![0x5A, 0, 0x2A, 0, 0, 0, 0, 0, 255, 0]),
    ];
    for (unit, cdb) in cases {
        let all = data(answer(unit.start(&command(&cdb, 65536, &[]))));
        for room in 0..all.len() {
            let cut = data(answer(unit.start(&command(&cdb, room as u32, &[]))));
            assert_eq!(cut, all[..room], "{cdb:02x?}");
        }
    }
}

fn a_cdb() -> impl Strategy<Value = Vec<u8>> {
    let known = proptest::sample::select(vec![
        0x00, 0x03, 0x08, 0x0A, 0x12, 0x15, 0x16, 0x17, 0x1A, 0x1B, 0x1E, 0x25, 0x28, 0x2A, 0x2E, 0x2F, 0x35,
        0x41, 0x42, 0x43, 0x46, 0x4A, 0x51, 0x55, 0x5A, 0x5E, 0x5F, 0x88, 0x8A, 0x8F, 0x91, 0x93, 0x9E, 0xA3,
        0xA8, 0xAD,
    ]);
    let opcode = prop_oneof![3 => known, 1 => any::<u8>()];
    let byte = prop_oneof![3 => Just(0), 2 => 0u8..10, 1 => any::<u8>()];
    let rest = proptest::collection::vec(byte, 15);
    (opcode, rest, prop_oneof![4 => Just(16), 1 => 1usize..16])
        .prop_map(|(opcode, rest, len)| [&[opcode], &rest[..len - 1]].concat())
}

proptest! {
    #[test]
    fn random_commands_never_panic_nor_move_too_much(
        commands in proptest::collection::vec((a_cdb(), 0usize..5000, any::<u8>(), 0u8..3, 0u8..20), 1..40),
        which in 0usize..5,
    ) {
        let units = units();
        for (cdb, data_len, fill, from, other) in commands {
            let mut memory = vec![fill; data_len];
            // Lists of parameters that are nearly right.
            if fill % 2 == 0 {
                memory.iter_mut().skip(4).for_each(|byte| *byte = 0);
            }
            let outcome = if other == 1 { Err(IoError::Aborted) } else { Ok(()) };
            follow(&*units[which], &cdb, &memory, initiator(from), outcome);
            if other == 2 {
                units[which].reset(Reset::Initiator(initiator(from)));
            }
        }
    }
}
