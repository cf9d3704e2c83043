//! The commands of a DVD drive.

use super::super::gate::Access::{Any, Free, Read, Removal, StartStop, Unreserved};
use super::super::operation::{Operation, Operations, op, usage};
use super::super::protocol::action;
use super::Dvd;

pub(super) static OPERATIONS: Operations<Dvd> = Operations::new(LIST);

#[rustfmt::skip]
const LIST: &[Operation<Dvd>] = {
    use Operation as Op;
    use Dvd as D;
    &[
        Op::new(op!(TEST_UNIT_READY), &[0; 5], Unreserved, D::test_unit_ready),
        Op::new(op!(REQUEST_SENSE), &[0x01, 0, 0, 0xFF, 0], Free, D::request_sense),
        Op::new(op!(INQUIRY), &[0x01, 0xFF, 0xFF, 0xFF, 0], Free, D::inquiry),
        Op::new(op!(MODE_SENSE_6), &[0x08, 0xFF, 0xFF, 0xFF, 0], Read, D::mode_sense),
        Op::new(op!(START_STOP_UNIT), &[0x01, 0, 0x0F, 0xF7, 0], StartStop, D::start_stop_unit),
        Op::new(op!(PREVENT_ALLOW_MEDIUM_REMOVAL), &[0, 0, 0, 0x03, 0], Removal, D::prevent_allow),
        Op::new(op!(READ_CAPACITY_10), usage!(10, 0), Any, D::read_capacity),
        Op::new(op!(READ_10), usage!(10, 0x18), Read, D::read),
        Op::new(op!(SEEK_10), &[0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0], Read, D::seek),
        Op::new(op!(READ_TOC), &[0x02, 0x0F, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xC0], Read, D::read_toc),
        Op::new(op!(GET_CONFIGURATION), &[0x03, 0xFF, 0xFF, 0, 0, 0, 0xFF, 0xFF, 0], Free, D::get_configuration),
        Op::new(op!(GET_EVENT_STATUS_NOTIFICATION), &[0x01, 0, 0, 0xFF, 0, 0, 0xFF, 0xFF, 0], Free, D::get_event),
        Op::new(op!(READ_DISC_INFORMATION), &[0x07, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0], Read, D::read_disc_information),
        Op::new(op!(MODE_SENSE_10), &[0x08, 0xFF, 0xFF, 0, 0, 0, 0xFF, 0xFF, 0], Read, D::mode_sense),
        Op::new(op!(MAINTENANCE_IN, REPORT_SUPPORTED_OPERATION_CODES),
            &[0x1F, 0x87, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0], Read, D::report_operations)
            .action(action::REPORT_SUPPORTED_OPERATION_CODES),
        Op::new(op!(READ_12), usage!(12, 0x18), Read, D::read),
        Op::new(op!(READ_DVD_STRUCTURE),
            &[0x0F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xC0, 0], Read, D::read_dvd_structure),
        Op::new(op!(MECHANISM_STATUS), &[0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0, 0], Read, D::mechanism_status),
    ]
};
