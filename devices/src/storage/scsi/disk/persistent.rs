//! PERSISTENT RESERVE IN and OUT: from and to the wire. What they mean is in [`reservation`](super::super::reservation).

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::super::operation::Handled;
use super::super::protocol::cdb::{PersistentReserveIn, PersistentReserveOut};
use super::super::protocol::reservation::{
    ALL_TG_PT, APTPL, Capabilities, FullStatus, InHeader, OutParameters, Reservation, SPEC_I_PT,
};
use super::super::protocol::{VENDOR, action};
use super::super::requests::{Parameters, parse};
use super::super::reservation::{Kind, Reservations};
use super::super::sense::{self, Sense};
use super::super::unit::{Command, Fault, Initiator, Reply};
use super::ScsiDisk;

impl ScsiDisk {
    /// PERSISTENT RESERVE IN (SPC-4 6.15).
    pub(super) fn persistent_reserve_in<'u>(&'u self, command: &Command<'_>) -> Handled<'u> {
        let cdb: &PersistentReserveIn = parse(command.cdb)?;
        let data = self.gate.persistent_in(|reservations| match cdb.action & SERVICE_ACTION {
            action::READ_KEYS => Ok(keys(reservations)),
            action::READ_RESERVATION => Ok(reservation(reservations)),
            action::REPORT_CAPABILITIES => Ok(capabilities()),
            action::READ_FULL_STATUS => Ok(full_status(reservations)),
            _ => Err(Sense::cdb_bit(1, 4)),
        })?;
        Ok(Reply::data(command, cdb.allocation_length, data).into())
    }

    /// PERSISTENT RESERVE OUT (SPC-4 6.16).
    pub(super) fn persistent_reserve_out<'u>(&'u self, command: &Command<'_>) -> Handled<'u> {
        const LENGTH: u32 = 24;
        const _: () = assert!(size_of::<OutParameters>() == LENGTH as usize);
        let cdb: &PersistentReserveOut = parse(command.cdb)?;
        if cdb.length.get() != LENGTH {
            return Err(sense::PARAMETER_LIST_LENGTH_ERROR.into());
        }
        let list = match Parameters::of(command, LENGTH as usize)? {
            Parameters::Here(list) => list,
            Parameters::Fetch(step) => return Ok(step),
        };
        let list = OutParameters::read_from_bytes(list).map_err(|_| sense::PARAMETER_LIST_LENGTH_ERROR)?;
        self.change_reservations(command.initiator, cdb, &list)?;
        Ok(Reply::moved(LENGTH).into())
    }

    fn change_reservations(
        &self,
        initiator: Initiator,
        cdb: &PersistentReserveOut,
        list: &OutParameters,
    ) -> Result<(), Fault> {
        let (key, other) = (list.key.get(), list.service_action_key.get());
        let what = cdb.action & SERVICE_ACTION;
        if matches!(what, action::REGISTER | action::REGISTER_AND_IGNORE_EXISTING_KEY) {
            for (flag, bit) in [(SPEC_I_PT, 3), (ALL_TG_PT, 2), (APTPL, 0)] {
                if list.flags & flag != 0 {
                    return Err(Sense::parameter_bit(20, bit).into());
                }
            }
        }
        let kind = || match cdb.scope_and_type >> 4 {
            0 => Kind::new(cdb.scope_and_type).ok_or(Sense::cdb_bit(2, 3)),
            _ => Err(Sense::cdb_bit(2, 7)),
        };
        self.gate.persistent_out(|reservations, told| match what {
            action::REGISTER => reservations.register(told, initiator, key, other),
            action::RESERVE => reservations.reserve(initiator, key, kind()?),
            action::RELEASE => reservations.release(told, initiator, key, kind()?),
            action::CLEAR => reservations.clear(told, initiator, key),
            action::PREEMPT => reservations.preempt(told, initiator, (key, other), kind()?),
            action::REGISTER_AND_IGNORE_EXISTING_KEY => {
                reservations.register_and_ignore(told, initiator, other);
                Ok(())
            }
            _ => Err(Sense::cdb_bit(1, 4).into()),
        })
    }
}

/// Low bits of the CDB's second byte.
const SERVICE_ACTION: u8 = 0x1F;

fn with_header(reservations: &Reservations, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX).into();
    let header = InHeader { generation: reservations.generation().into(), length };
    [header.as_bytes(), body].concat()
}

fn keys(reservations: &Reservations) -> Vec<u8> {
    let keys: Vec<u8> = reservations.registrants().flat_map(|(_, key)| key.get().to_be_bytes()).collect();
    with_header(reservations, &keys)
}

fn reservation(reservations: &Reservations) -> Vec<u8> {
    let Some((kind, key)) = reservations.held() else { return with_header(reservations, &[]) };
    let mut body = Reservation::new_zeroed();
    body.key = key.map_or(0, Into::into).into();
    body.scope_and_type = kind as u8;
    with_header(reservations, body.as_bytes())
}

fn capabilities() -> Vec<u8> {
    let mut body = Capabilities::new_zeroed();
    body.length = 8.into();
    body.more_flags = 0x80;
    // Byte 4 has a bit for each type from 0 to 7, byte 5 begins with type 8.
    let bit = |kind: Kind| (1u16 << (kind as u8)).rotate_left(8);
    body.types = Kind::ALL.into_iter().fold(0, |types, kind| types | bit(kind)).into();
    body.as_bytes().to_vec()
}

fn full_status(reservations: &Reservations) -> Vec<u8> {
    let held = reservations.held().map_or(0, |(kind, _)| kind as u8);
    let mut all = Vec::new();
    for (initiator, key) in reservations.registrants() {
        let mut body = FullStatus::new_zeroed();
        body.key = key.get().into();
        if reservations.holds(initiator) {
            (body.flags, body.scope_and_type) = (1, held);
        }
        body.target_port = 1.into();
        body.length = 24.into();
        body.protocol = 4;
        let number = u64::from(initiator.number()).to_be_bytes();
        body.port.iter_mut().zip(VENDOR.iter().chain(&number)).for_each(|(to, from)| *to = *from);
        all.extend_from_slice(body.as_bytes());
    }
    with_header(reservations, &all)
}
