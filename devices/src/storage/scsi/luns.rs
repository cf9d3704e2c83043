//! What a controller answers for no unit in particular: REPORT LUNS, and commands to units that are not there.

use zerocopy::FromZeros;
use zerocopy::IntoBytes;

use super::protocol::cdb::{EVPD, Inquiry, ReportLuns, RequestSense};
use super::protocol::{InquiryData, device_type, opcode};
use super::requests::parse;
use super::sense::{self, Sense};
use super::unit::{Command, Fault, Reply};

/// Answers REPORT LUNS (SPC-4 6.33), whichever unit it was sent to.
///
/// Hyper-V looks at the guest's buffer alone, and its firmware (StorvscDxe) relies on that: it leaves the allocation
/// length at 0, and takes a refusal for a controller without disks.
#[must_use]
pub fn report_luns(command: &Command<'_>, luns: impl IntoIterator<Item = u8>) -> Reply {
    list(command, luns).unwrap_or_else(|sense| Fault::Check(sense).into())
}

fn list(command: &Command<'_>, luns: impl IntoIterator<Item = u8>) -> Result<Reply, Sense> {
    let cdb: &ReportLuns = parse(command.cdb)?;
    let allocation_length = match cdb.allocation_length.get() {
        0 => command.data_len,
        1..16 => return Err(Sense::cdb(6)),
        bytes => bytes,
    };
    let mut data = vec![0; 8];
    match cdb.select {
        0 | 2 => luns.into_iter().for_each(|lun| data.extend([0, lun, 0, 0, 0, 0, 0, 0])),
        // There are no well-known units.
        1 => {}
        _ => return Err(Sense::cdb(2)),
    }
    let len = u32::try_from(data.len() - 8).unwrap_or(u32::MAX);
    if let Some(header) = data.first_chunk_mut() {
        *header = len.to_be_bytes();
    }
    Ok(Reply::data(command, allocation_length, data))
}

/// Answers a command to a unit that is not there (SPC-4 4.5.1): INQUIRY tells so in its data, since some initiators
/// take INQUIRY for successful whatever they are told.
#[must_use]
pub fn absent(command: &Command<'_>) -> Reply {
    let refused = Reply::check(sense::LOGICAL_UNIT_NOT_SUPPORTED);
    match command.cdb.first() {
        Some(&opcode::INQUIRY) => {
            let Ok(cdb) = parse::<Inquiry>(command.cdb) else { return refused };
            if cdb.flags & EVPD != 0 {
                return Reply::check(Sense::cdb(2));
            }
            let mut data = InquiryData::new_zeroed();
            data.device_type = device_type::ABSENT;
            // Of an older unit Linux does not ask for the list of units.
            data.version = 6;
            data.format = 2;
            data.additional_length = InquiryData::ADDITIONAL_LENGTH;
            Reply::data(command, cdb.allocation_length, data.as_bytes().to_vec())
        }
        Some(&opcode::REQUEST_SENSE) => match parse::<RequestSense>(command.cdb) {
            Ok(cdb) => {
                let sense = sense::LOGICAL_UNIT_NOT_SUPPORTED.to_bytes();
                Reply::data(command, cdb.allocation_length, sense.to_vec())
            }
            Err(_) => refused,
        },
        _ => refused,
    }
}
