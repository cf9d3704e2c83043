//! What the drive is: INQUIRY, features, mode pages; and what it has to tell: events, status of the mechanism.

use zerocopy::big_endian::{U16, U32};
use zerocopy::{FromZeros, IntoBytes};

use super::super::inquiry::Kind;
use super::super::mode::{ModeSense, PageControl};
use super::super::operation::Handled;
use super::super::protocol::cdb::{
    EVPD, GetConfiguration, GetEventStatusNotification, Inquiry, MechanismStatus, POLLED,
};
use super::super::protocol::mmc::{
    BLOCK, CLASS_DEVICE_BUSY, CLASS_MEDIA, Capabilities, ConfigurationHeader, Event, EventHeader,
    FEATURE_CURRENT, FEATURE_PERSISTENT, FeatureHeader, MECHANISM_DOOR_OPEN, MECHANISM_EJECT, MECHANISM_LOCK,
    MECHANISM_LOCKED, MECHANISM_TRAY, Mechanism, NO_EVENT_AVAILABLE, READS_DVD_ROM, feature, profile,
};
use super::super::protocol::mode::{self, PageHeader};
use super::super::protocol::vpd::page;
use super::super::protocol::{device_type, version_descriptor};
use super::super::requests::parse;
use super::super::sense::Sense;
use super::super::unit::{Command, Reply};
use super::Dvd;

const KIND: Kind = Kind {
    device_type: device_type::CD_DVD,
    removable: true,
    product: b"Virtual DVD-ROM ",
    version_descriptors: &[version_descriptor::SAM_5, version_descriptor::SPC_4, version_descriptor::MMC_6],
};

/// Pages of vital product data, ascending.
const PAGES: [u8; 3] = [page::SUPPORTED_PAGES, page::UNIT_SERIAL_NUMBER, page::DEVICE_IDENTIFICATION];

/// What is told as the speed, kilobytes a second: 8 times a DVD's.
const SPEED: u16 = 8 * 1385;

impl Dvd {
    /// INQUIRY.
    pub(super) fn inquiry<'u>(&'u self, command: &Command<'_>) -> Handled<'u> {
        let cdb: &Inquiry = parse(command.cdb)?;
        let data = match (cdb.flags & EVPD != 0, cdb.page) {
            (false, 0) => KIND.standard(),
            (true, page::SUPPORTED_PAGES) => KIND.page(page::SUPPORTED_PAGES, &PAGES),
            (true, page::UNIT_SERIAL_NUMBER) => KIND.serial_number(&self.identity),
            (true, page::DEVICE_IDENTIFICATION) => KIND.identification(&self.identity),
            _ => return Err(Sense::cdb(2).into()),
        };
        Ok(Reply::data(command, cdb.allocation_length, data).into())
    }

    /// MODE SENSE (6), (10).
    pub(super) fn mode_sense<'u>(&'u self, command: &Command<'_>) -> Handled<'u> {
        let sense = ModeSense::of(command)?;
        let mut page = Capabilities::new_zeroed();
        page.header = PageHeader { code: mode::page::CAPABILITIES, length: 20 };
        if sense.control != PageControl::Changeable {
            page.read = READS_DVD_ROM;
            page.mechanism = MECHANISM_TRAY | MECHANISM_EJECT | MECHANISM_LOCK;
            if sense.control == PageControl::Current && self.drive().is_locked() {
                page.mechanism |= MECHANISM_LOCKED;
            }
            (page.max_speed, page.speed) = (SPEED.into(), SPEED.into());
        }
        Ok(sense.reply(command, 0, &[], &[(mode::page::CAPABILITIES, page.as_bytes())])?.into())
    }

    /// GET CONFIGURATION (MMC-6 6.6).
    pub(super) fn get_configuration<'u>(&'u self, command: &Command<'_>) -> Handled<'u> {
        let cdb: &GetConfiguration = parse(command.cdb)?;
        let current_profile = self.drive().profile();
        let (request, first) = (cdb.request & 0x03, cdb.first_feature.get());
        let wanted = |&(code, flags, _): &(u16, u8, Vec<u8>)| match request {
            0 => code >= first,
            1 => code >= first && flags & FEATURE_CURRENT != 0,
            _ => code == first,
        };
        if request == 3 {
            return Err(Sense::cdb_bit(1, 1).into());
        }
        let mut body = Vec::new();
        for (code, flags, data) in features(current_profile).into_iter().filter(wanted) {
            let length = u8::try_from(data.len()).unwrap_or(0);
            body.extend_from_slice(FeatureHeader { code: code.into(), flags, length }.as_bytes());
            body.extend(data);
        }
        let header = ConfigurationHeader {
            length: U32::new(u32::try_from(body.len() + 4).unwrap_or(u32::MAX)),
            reserved: [0; 2],
            current_profile: current_profile.into(),
        };
        Ok(Reply::data(command, cdb.allocation_length, [header.as_bytes(), &body].concat()).into())
    }

    /// GET EVENT STATUS NOTIFICATION (MMC-6 6.7): one event, of the lowest class that is asked for. An event is told
    /// once, to whoever asks first, unless only the header is asked for.
    pub(super) fn get_event<'u>(&'u self, command: &Command<'_>) -> Handled<'u> {
        const CLASSES: u8 = 1 << CLASS_MEDIA | 1 << CLASS_DEVICE_BUSY;
        let cdb: &GetEventStatusNotification = parse(command.cdb)?;
        if cdb.flags & POLLED == 0 {
            return Err(Sense::cdb_bit(1, 0).into());
        }
        let asked = cdb.classes & CLASSES;
        let mut header = EventHeader { length: U16::new(2), class: NO_EVENT_AVAILABLE, classes: CLASSES };
        let mut event = Event::new_zeroed();
        if asked & 1 << CLASS_MEDIA != 0 {
            header.class = CLASS_MEDIA;
            let mut drive = self.drive();
            event.status = drive.media_status();
            let room = u32::from(cdb.allocation_length.get()).min(command.data_len);
            if room as usize > size_of::<EventHeader>() {
                event.code = drive.take_event();
            }
        } else if asked != 0 {
            header.class = CLASS_DEVICE_BUSY;
        }
        let mut data = Vec::new();
        if asked != 0 {
            header.length = U16::new(6);
        }
        data.extend_from_slice(header.as_bytes());
        if asked != 0 {
            data.extend_from_slice(event.as_bytes());
        }
        Ok(Reply::data(command, cdb.allocation_length, data).into())
    }

    /// MECHANISM STATUS (MMC-6 6.9).
    pub(super) fn mechanism_status<'u>(&'u self, command: &Command<'_>) -> Handled<'u> {
        let cdb: &MechanismStatus = parse(command.cdb)?;
        let mut data = Mechanism::new_zeroed();
        data.state = if self.drive().is_open() { MECHANISM_DOOR_OPEN } else { 0 };
        Ok(Reply::data(command, cdb.allocation_length, data.as_bytes().to_vec()).into())
    }
}

/// Code, flags and data of all features, ascending.
fn features(current: u16) -> Vec<(u16, u8, Vec<u8>)> {
    const ALWAYS: u8 = FEATURE_PERSISTENT | FEATURE_CURRENT;
    let version = |version: u8| version << 2;
    let profile_entry = |number: u16| {
        let [high, low] = number.to_be_bytes();
        [high, low, u8::from(number == current), 0]
    };
    let now = |condition: bool| if condition { FEATURE_CURRENT } else { 0 };
    let blocking = if current == profile::DVD_ROM { 16 } else { 1 };
    vec![
        (
            feature::PROFILE_LIST,
            ALWAYS,
            [profile_entry(profile::DVD_ROM), profile_entry(profile::CD_ROM)].concat(),
        ),
        // SCSI; device busy events are told.
        (feature::CORE, version(2) | ALWAYS, vec![0, 0, 0, 1, 1, 0, 0, 0]),
        // Events are polled, and operational changes are no class of theirs.
        (feature::MORPHING, version(1) | ALWAYS, vec![0; 4]),
        (feature::REMOVABLE_MEDIUM, ALWAYS, vec![MECHANISM_TRAY | MECHANISM_EJECT | MECHANISM_LOCK, 0, 0, 0]),
        (
            feature::RANDOM_READABLE,
            now(current != profile::NONE),
            [&BLOCK.to_be_bytes()[..], &[0, blocking, 0, 0]].concat(),
        ),
        (feature::DVD_READ, version(1) | now(current == profile::DVD_ROM), vec![0; 4]),
    ]
}
