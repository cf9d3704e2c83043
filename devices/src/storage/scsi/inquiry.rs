//! What INQUIRY tells of all kinds of unit: standard data, serial number, device identification.

use zerocopy::big_endian::U16;
use zerocopy::{FromZeros, IntoBytes};

use super::identity::Identity;
use super::protocol::vpd::{
    DesignatorHeader, NAA_LOCALLY_ASSIGNED, PageHeader, code_set, designator_type, page,
};
use super::protocol::{InquiryData, VENDOR};

/// What kind of unit it is.
#[derive(Debug)]
pub(super) struct Kind {
    pub device_type: u8,
    pub removable: bool,
    /// Padded with spaces.
    pub product: &'static [u8; 16],
    pub version_descriptors: &'static [u16],
}

impl Kind {
    /// Standard INQUIRY data (SPC-4 6.6.2).
    pub fn standard(&self) -> Vec<u8> {
        const ADDITIONAL: u8 = 69;
        const _: () = assert!(size_of::<InquiryData>() == 5 + ADDITIONAL as usize);
        let mut data = InquiryData::new_zeroed();
        data.device_type = self.device_type;
        data.removable = u8::from(self.removable) << 7;
        data.version = 6;
        data.format = 0x12;
        data.additional_length = ADDITIONAL;
        data.flags7 = 0x02;
        data.vendor = *VENDOR;
        data.product = *self.product;
        data.revision = *b"1.0 ";
        for (field, &version) in data.version_descriptors.iter_mut().zip(self.version_descriptors) {
            *field = U16::new(version);
        }
        data.as_bytes().to_vec()
    }

    /// A page of vital product data.
    pub fn page(&self, page: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap_or(u16::MAX).into();
        let header = PageHeader { device_type: self.device_type, page, length };
        [header.as_bytes(), body].concat()
    }

    /// Unit serial number.
    pub fn serial_number(&self, identity: &Identity) -> Vec<u8> {
        self.page(page::UNIT_SERIAL_NUMBER, identity.serial().as_bytes())
    }

    /// Device identification: a number for those who compare bytes, vendor, product and serial number for people.
    pub fn identification(&self, identity: &Identity) -> Vec<u8> {
        let number = (NAA_LOCALLY_ASSIGNED | identity.number()).to_be_bytes();
        let text = [&VENDOR[..], self.product, identity.serial().as_bytes()].concat();
        let body = [
            designator(code_set::BINARY, designator_type::NAA, &number),
            designator(code_set::ASCII, designator_type::T10_VENDOR_ID, &text),
        ];
        self.page(page::DEVICE_IDENTIFICATION, &body.concat())
    }
}

fn designator(code_set: u8, designator_type: u8, name: &[u8]) -> Vec<u8> {
    let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
    let header = DesignatorHeader { code_set, designator_type, reserved: 0, length };
    [header.as_bytes(), name].concat()
}
