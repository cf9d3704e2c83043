//! What a disk tells of itself: INQUIRY and READ CAPACITY.

use zerocopy::{FromZeros, IntoBytes};

use super::super::inquiry::Kind;
use super::super::operation::Handled;
use super::super::protocol::cdb::{EVPD, Inquiry, PMI, ServiceActionIn16, Transfer10};
use super::super::protocol::vpd::{
    BlockDeviceCharacteristics, BlockLimits, LBPRZ, LBPU, LBPWS, LBPWS10, LogicalBlockProvisioning,
    NON_ROTATING, PROVISIONING_FULL, PROVISIONING_THIN, page,
};
use super::super::protocol::{
    CAPACITY_LBPME, CAPACITY_LBPRZ, Capacity10, Capacity16, device_type, version_descriptor,
};
use super::super::requests::parse;
use super::super::sense::Sense;
use super::super::unit::{Command, Reply};
use super::ScsiDisk;
use super::provision::{MAX_UNMAP_BYTES, MAX_UNMAP_DESCRIPTORS, MAX_WRITE_SAME_BYTES};

const KIND: Kind = Kind {
    device_type: device_type::DIRECT_ACCESS,
    removable: false,
    product: b"Virtual Disk    ",
    version_descriptors: &[version_descriptor::SAM_5, version_descriptor::SPC_4, version_descriptor::SBC_3],
};

/// Pages of vital product data, ascending.
const PAGES: [u8; 6] = [
    page::SUPPORTED_PAGES,
    page::UNIT_SERIAL_NUMBER,
    page::DEVICE_IDENTIFICATION,
    page::BLOCK_LIMITS,
    page::BLOCK_DEVICE_CHARACTERISTICS,
    page::LOGICAL_BLOCK_PROVISIONING,
];

impl ScsiDisk {
    /// INQUIRY.
    pub(super) fn inquiry<'u>(&'u self, command: &Command<'_>) -> Handled<'u> {
        let cdb: &Inquiry = parse(command.cdb)?;
        let data = match (cdb.flags & EVPD != 0, cdb.page) {
            (false, 0) => KIND.standard(),
            (false, _) => return Err(Sense::cdb(2).into()),
            (true, page::SUPPORTED_PAGES) => KIND.page(page::SUPPORTED_PAGES, &PAGES),
            (true, page::UNIT_SERIAL_NUMBER) => KIND.serial_number(&self.identity),
            (true, page::DEVICE_IDENTIFICATION) => KIND.identification(&self.identity),
            (true, page::BLOCK_LIMITS) => KIND.page(page::BLOCK_LIMITS, self.block_limits().as_bytes()),
            (true, page::BLOCK_DEVICE_CHARACTERISTICS) => {
                let mut body = BlockDeviceCharacteristics::new_zeroed();
                body.rotation_rate = NON_ROTATING.into();
                KIND.page(page::BLOCK_DEVICE_CHARACTERISTICS, body.as_bytes())
            }
            (true, page::LOGICAL_BLOCK_PROVISIONING) => {
                KIND.page(page::LOGICAL_BLOCK_PROVISIONING, self.provisioning().as_bytes())
            }
            (true, _) => return Err(Sense::cdb(2).into()),
        };
        Ok(Reply::data(command, cdb.allocation_length, data).into())
    }

    fn block_limits(&self) -> BlockLimits {
        let mut body = BlockLimits::new_zeroed();
        body.wsnz = 1;
        body.optimal_granularity = u16::try_from(self.physical).unwrap_or(0).into();
        body.max_transfer = (self.max_transfer / self.block).into();
        body.max_write_same = u64::from(MAX_WRITE_SAME_BYTES / self.block).into();
        if let Some(granularity) = self.unmap_granularity {
            body.max_unmap_blocks = (MAX_UNMAP_BYTES / self.block).into();
            body.max_unmap_descriptors = MAX_UNMAP_DESCRIPTORS.into();
            body.unmap_granularity = granularity.into();
            body.unmap_alignment = (1 << 31).into();
        }
        body
    }

    fn provisioning(&self) -> LogicalBlockProvisioning {
        let mut body = LogicalBlockProvisioning::new_zeroed();
        if self.is_thin() {
            body.flags = LBPU | LBPWS | LBPWS10 | LBPRZ;
            body.provisioning_type = PROVISIONING_THIN;
        } else {
            body.provisioning_type = PROVISIONING_FULL;
        }
        body
    }

    /// READ CAPACITY (10).
    pub(super) fn read_capacity_10<'u>(&'u self, command: &Command<'_>) -> Handled<'u> {
        let cdb: &Transfer10 = parse(command.cdb)?;
        check_address(cdb.length.get() & u16::from(PMI) != 0, cdb.lba.get().into())?;
        let last_lba = u32::try_from(self.last_lba()).unwrap_or(u32::MAX).into();
        let data = Capacity10 { last_lba, block_length: self.block.into() };
        Ok(Reply::data(command, u32::MAX, data.as_bytes().to_vec()).into())
    }

    /// READ CAPACITY (16).
    pub(super) fn read_capacity_16<'u>(&'u self, command: &Command<'_>) -> Handled<'u> {
        let cdb: &ServiceActionIn16 = parse(command.cdb)?;
        check_address(cdb.flags & PMI != 0, cdb.lba.get())?;
        let mut data = Capacity16::new_zeroed();
        data.last_lba = self.last_lba().into();
        data.block_length = self.block.into();
        data.exponents = u8::try_from(self.physical.ilog2()).unwrap_or(0);
        data.alignment = if self.is_thin() { CAPACITY_LBPME | CAPACITY_LBPRZ } else { 0 }.into();
        Ok(Reply::data(command, cdb.allocation_length, data.as_bytes().to_vec()).into())
    }

    fn last_lba(&self) -> u64 {
        self.blocks.saturating_sub(1)
    }
}

/// READ CAPACITY's address is obsolete: it must be 0, unless the obsolete PMI is set too.
fn check_address(partial: bool, lba: u64) -> Result<(), Sense> {
    if !partial && lba != 0 { Err(Sense::cdb(2)) } else { Ok(()) }
}
