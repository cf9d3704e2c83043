//! The commands of a disk.

use super::super::gate::Access::{Any, Free, Read, Removal, StartStop, Unreserved, Write};
use super::super::operation::{Operation, Operations, op, usage};
use super::super::protocol::action;
use super::ScsiDisk;

pub(super) static OPERATIONS: Operations<ScsiDisk> = Operations::new(LIST);

/// Usage of PERSISTENT RESERVE IN and OUT.
const PR_IN: &[u8] = &[0x1F, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0];
const PR_OUT: &[u8] = &[0x1F, 0xFF, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0];

#[rustfmt::skip]
const LIST: &[Operation<ScsiDisk>] = {
    use Operation as Op;
    use ScsiDisk as D;
    &[
        Op::new(op!(TEST_UNIT_READY), &[0; 5], Unreserved, D::test_unit_ready),
        Op::new(op!(REQUEST_SENSE), &[0x01, 0, 0, 0xFF, 0], Free, D::request_sense),
        Op::new(op!(READ_6), usage!(6), Read, D::read),
        Op::new(op!(WRITE_6), usage!(6), Write, D::write),
        Op::new(op!(INQUIRY), &[0x01, 0xFF, 0xFF, 0xFF, 0], Free, D::inquiry),
        Op::new(op!(MODE_SELECT_6), &[0x11, 0, 0, 0xFF, 0], Write, D::mode_select),
        Op::new(op!(RESERVE_6), &[0; 5], Unreserved, D::reserve),
        Op::new(op!(RELEASE_6), &[0; 5], Any, D::release),
        Op::new(op!(MODE_SENSE_6), &[0x08, 0xFF, 0xFF, 0xFF, 0], Read, D::mode_sense),
        Op::new(op!(START_STOP_UNIT), &[0x01, 0, 0x0F, 0xF7, 0], StartStop, D::start_stop_unit),
        Op::new(op!(SEND_DIAGNOSTIC), &[0xF7, 0, 0xFF, 0xFF, 0], Write, D::send_diagnostic),
        Op::new(op!(PREVENT_ALLOW_MEDIUM_REMOVAL), &[0, 0, 0, 0x03, 0], Removal, D::prevent_allow),
        Op::new(op!(READ_CAPACITY_10), usage!(10, 0), Any, D::read_capacity_10),
        Op::new(op!(READ_10), usage!(10, 0x18), Read, D::read),
        Op::new(op!(WRITE_10), usage!(10, 0x18), Write, D::write),
        Op::new(op!(WRITE_AND_VERIFY_10), usage!(10, 0x12), Write, D::write_and_verify),
        Op::new(op!(VERIFY_10), usage!(10, 0x12), Read, D::verify),
        Op::new(op!(SYNCHRONIZE_CACHE_10), usage!(10, 0x02), Write, D::synchronize_cache),
        Op::new(op!(WRITE_SAME_10), usage!(10, 0x08), Write, D::write_same),
        Op::new(op!(UNMAP), &[0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0], Write, D::unmap).only_if(D::is_thin),
        Op::new(op!(MODE_SELECT_10), &[0x11, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0], Write, D::mode_select),
        Op::new(op!(RESERVE_10), &[0; 9], Unreserved, D::reserve),
        Op::new(op!(RELEASE_10), &[0; 9], Any, D::release),
        Op::new(op!(MODE_SENSE_10), &[0x08, 0xFF, 0xFF, 0, 0, 0, 0xFF, 0xFF, 0], Read, D::mode_sense),
        Op::new(op!(PERSISTENT_RESERVE_IN, READ_KEYS), PR_IN, Unreserved, D::persistent_reserve_in)
            .action(action::READ_KEYS),
        Op::new(op!(PERSISTENT_RESERVE_IN, READ_RESERVATION), PR_IN, Unreserved, D::persistent_reserve_in)
            .action(action::READ_RESERVATION),
        Op::new(op!(PERSISTENT_RESERVE_IN, REPORT_CAPABILITIES), PR_IN, Unreserved, D::persistent_reserve_in)
            .action(action::REPORT_CAPABILITIES),
        Op::new(op!(PERSISTENT_RESERVE_IN, READ_FULL_STATUS), PR_IN, Unreserved, D::persistent_reserve_in)
            .action(action::READ_FULL_STATUS),
        Op::new(op!(PERSISTENT_RESERVE_OUT, REGISTER), PR_OUT, Unreserved, D::persistent_reserve_out)
            .action(action::REGISTER),
        Op::new(op!(PERSISTENT_RESERVE_OUT, RESERVE), PR_OUT, Unreserved, D::persistent_reserve_out)
            .action(action::RESERVE),
        Op::new(op!(PERSISTENT_RESERVE_OUT, RELEASE), PR_OUT, Unreserved, D::persistent_reserve_out)
            .action(action::RELEASE),
        Op::new(op!(PERSISTENT_RESERVE_OUT, CLEAR), PR_OUT, Unreserved, D::persistent_reserve_out)
            .action(action::CLEAR),
        Op::new(op!(PERSISTENT_RESERVE_OUT, PREEMPT), PR_OUT, Unreserved, D::persistent_reserve_out)
            .action(action::PREEMPT),
        Op::new(op!(PERSISTENT_RESERVE_OUT, REGISTER_AND_IGNORE_EXISTING_KEY), PR_OUT, Unreserved, D::persistent_reserve_out)
            .action(action::REGISTER_AND_IGNORE_EXISTING_KEY),
        Op::new(op!(READ_16), usage!(16, 0x18), Read, D::read),
        Op::new(op!(WRITE_16), usage!(16, 0x18), Write, D::write),
        Op::new(op!(WRITE_AND_VERIFY_16), usage!(16, 0x12), Write, D::write_and_verify),
        Op::new(op!(VERIFY_16), usage!(16, 0x12), Read, D::verify),
        Op::new(op!(SYNCHRONIZE_CACHE_16), usage!(16, 0x02), Write, D::synchronize_cache),
        Op::new(op!(WRITE_SAME_16), usage!(16, 0x09), Write, D::write_same),
        Op::new(op!(SERVICE_ACTION_IN_16, READ_CAPACITY_16), usage!(16, 0x1F), Any, D::read_capacity_16)
            .action(action::READ_CAPACITY_16),
        Op::new(op!(MAINTENANCE_IN, REPORT_SUPPORTED_OPERATION_CODES),
            &[0x1F, 0x87, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0], Read, D::report_operations)
            .action(action::REPORT_SUPPORTED_OPERATION_CODES),
        Op::new(op!(READ_12), usage!(12, 0x18), Read, D::read),
        Op::new(op!(WRITE_12), usage!(12, 0x18), Write, D::write),
        Op::new(op!(WRITE_AND_VERIFY_12), usage!(12, 0x12), Write, D::write_and_verify),
        Op::new(op!(VERIFY_12), usage!(12, 0x12), Read, D::verify),
    ]
};
