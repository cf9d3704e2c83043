//! Each structure as the firmware's documentation lays it out, byte by byte, and the totals.

use super::*;

/// The structure after the one that counts: its bytes, once the totals are found right.
fn only(blob: ConfigBlob) -> Vec<u8> {
    let bytes = blob.finish();
    let total = u32::try_from(bytes.len()).unwrap().to_le_bytes();
    assert_eq!(bytes[..16], [[0, 0, 0, 0], [16, 0, 0, 0], [2, 0, 0, 0], total].concat());
    bytes[16..].to_vec()
}

/// Little-endian words of 32 bits.
fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[test]
fn an_empty_blob_counts_itself() {
    assert_eq!(ConfigBlob::new().finish(), words(&[0, 16, 1, 16]));
}

#[test]
fn bios_information_has_pages_and_no_flags() {
    assert_eq!(only(ConfigBlob::new().image_size(6 << 20)), words(&[0x01, 16, 0x600, 0]));
}

#[test]
fn memory_map_has_24_bytes_a_range() {
    let map = only(ConfigBlob::new().memory_map(&[0..0xf800_0000, 1 << 32..0x1_8800_0000]));
    let wanted = [0x03, 8 + 2 * 24, 0, 0, 0xf800_0000, 0, 0, 0, 0, 1, 0x8800_0000, 0, 0, 0];
    assert_eq!(map, words(&wanted));
}

#[test]
fn entropy_is_64_bytes() {
    let bytes = std::array::from_fn(|i| u8::try_from(i).unwrap());
    assert_eq!(only(ConfigBlob::new().entropy(&bytes)), [words(&[0x04, 72]), bytes.to_vec()].concat());
}

#[test]
fn bios_guid_is_mixed_endian() {
    let uuid = Guid::parse("00112233-4455-6677-8899-aabbccddeeff");
    let wanted =
        [0x33, 0x22, 0x11, 0, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];
    assert_eq!(only(ConfigBlob::new().uuid(uuid)), [words(&[0x05, 24]), wanted.to_vec()].concat());
}

#[test]
fn flags_are_the_documented_bits() {
    let flags = Flags::SERIAL_CONTROLLERS | Flags::CONSOLE_COM1 | Flags::MTRRS_INITIALIZED;
    assert_eq!(only(ConfigBlob::new().flags(flags)), words(&[0x12, 16, 0x1000_0081, 0]));
    let all = flags | Flags::DISABLE_FRONT_PAGE | Flags::MEMORY_PROTECTION;
    assert_eq!(all.bits(), 0x1020_4081);
    assert_eq!([Flags::CONSOLE_COM2.bits(), Flags::CONSOLE_NONE.bits()], [0x100, 0x180]);
}

#[test]
fn processors_are_one_socket() {
    assert_eq!(only(ConfigBlob::new().processors(4)), words(&[0x13, 24, 4, 4, 4, 1]));
}

#[test]
fn mmio_ranges_are_in_pages_low_one_first() {
    let blob = ConfigBlob::new().mmio(0xf800_0000..1 << 32, 7 << 30..(7 << 30) + (512 << 20));
    assert_eq!(only(blob), words(&[0x14, 40, 0xf8000, 0, 0x8000, 0, 0x1c_0000, 0, 0x2_0000, 0]));
}

#[test]
fn acpi_tables_are_padded_with_zeros() {
    let wanted = [words(&[0x18, 48]), [7; 37].to_vec(), vec![0; 3]].concat();
    assert_eq!(only(ConfigBlob::new().madt(&[7; 37])), wanted);
    assert_eq!(only(ConfigBlob::new().acpi_table(&[7; 40])), [words(&[0x16, 48]), vec![7; 40]].concat());
}

#[test]
fn texts_end_with_a_nul_and_are_padded() {
    use Kind::{
        BoardSerial, ChassisAssetTag, ChassisSerial, SystemFamily, SystemManufacturer, SystemProduct,
        SystemSerial, SystemSku, SystemVersion,
    };
    for (kind, number) in [
        (SystemSerial, 0x06),
        (BoardSerial, 0x07),
        (ChassisSerial, 0x08),
        (ChassisAssetTag, 0x09),
        (SystemManufacturer, 0x1a),
        (SystemProduct, 0x1b),
        (SystemVersion, 0x1c),
        (SystemSku, 0x1d),
        (SystemFamily, 0x1e),
    ] {
        let wanted = [words(&[number, 16]), b"1234567\0".to_vec()].concat();
        assert_eq!(only(ConfigBlob::new().text(kind, "1234567")), wanted);
        let wanted = [words(&[number, 24]), b"12345678\0\0\0\0\0\0\0\0".to_vec()].concat();
        assert_eq!(only(ConfigBlob::new().text(kind, "12345678")), wanted);
    }
}

#[test]
fn totals_are_those_of_all_structures() {
    let blob = ConfigBlob::new().processors(1).madt(&[0; 37]).flags(Flags::empty()).finish();
    assert_eq!(blob.len(), 16 + 24 + 48 + 16);
    assert_eq!(blob[..16], words(&[0, 16, 4, 16 + 24 + 48 + 16]));
}
