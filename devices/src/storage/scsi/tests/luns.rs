//! What is answered for no unit in particular.

use super::*;

#[test]
fn report_luns_lists_them_in_the_peripheral_form() {
    let report = |select, allocation, data_len| {
        let cdb = [0xA0, 0, select, 0, 0, 0, 0, 0, 0, allocation, 0, 0];
        report_luns(&command(&cdb, data_len, &[]), [0, 5])
    };
    let both = [0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0];
    assert_eq!(data(report(0, 255, 4096)), both);
    assert_eq!(data(report(2, 255, 4096)), both);
    assert_eq!(data(report(0, 16, 4096)), both[..16], "the length stays that of the whole list");
    assert_eq!(data(report(0, 255, 10)), both[..10]);
    assert_eq!(data(report(1, 255, 4096)), [0; 8]);
    for bad in [report(3, 255, 4096), report(0, 15, 4096)] {
        assert_eq!(checked(&bad), (SenseKey::IllegalRequest, 0x24, 0x00));
    }
    assert_eq!(
        checked(&report_luns(&command(&[0xA0, 0], 0, &[]), [])),
        (SenseKey::IllegalRequest, 0x24, 0x00)
    );
}

/// The firmware's StorvscDxe asks like this, and then found no disk to boot from.
#[test]
fn report_luns_without_an_allocation_length_fills_the_buffer() {
    let cdb = [0xA0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let report = |luns: &[u8], data_len| report_luns(&command(&cdb, data_len, &[]), luns.iter().copied());
    let one = [0, 0, 0, 8, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0];
    assert_eq!(data(report(&[3], 8 + 8 * 255)), one);
    assert_eq!(data(report(&[3], 8)), one[..8]);
    assert_eq!(data(report(&[], 8 + 8 * 255)), [0; 8]);
    assert_eq!(data(report(&[3], 0)), []);
}

#[test]
fn an_absent_unit_says_so_in_its_inquiry_data() {
    let send = |cdb: &[u8]| absent(&command(cdb, 255, &[]));
    let inquiry = data(send(&[0x12, 0, 0, 0, 255, 0]));
    assert_eq!((inquiry.len(), &inquiry[..5]), (74, &[0x7F, 0, 6, 2, 69][..]));
    let refused = (SenseKey::IllegalRequest, 0x25, 0x00);
    for cdb in [&[0; 6][..], &[0x28; 10], &[0x12], &[0x03], &[]] {
        assert_eq!(checked(&send(cdb)), refused, "{cdb:02x?}");
    }
    assert_eq!(checked(&send(&[0x12, 1, 0x83, 0, 255, 0])), (SenseKey::IllegalRequest, 0x24, 0x00));
    assert_eq!(data(send(&[0x03, 0, 0, 0, 255, 0]))[12..14], [0x25, 0]);
}
