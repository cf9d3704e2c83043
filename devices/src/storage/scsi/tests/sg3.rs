//! What sg3-utils, an independent reader, makes of a unit's pages and sense data.

use std::io::Write;
use std::process::{Command as Process, Stdio};

use super::*;

/// The tool's output, with runs of spaces made one, for bytes on its standard input.
fn decode(tool: &str, arguments: &[&str], bytes: &[u8]) -> String {
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut child = Process::new(tool)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{tool}: {error}; install sg3-utils"));
    child.stdin.take().unwrap().write_all(hex.join(" ").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{tool} {hex:?}: {text}");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn says(text: &str, wanted: &[&str]) {
    for wanted in wanted {
        assert!(text.contains(wanted), "no '{wanted}' in: {text}");
    }
}

fn drive() -> Dvd {
    Dvd::new(Identity::new(None, Some(Serial::new("DVD1").unwrap()), CONTROLLER, 1))
}

#[test]
#[ignore = "needs sg3-utils"]
fn inquiry_data() {
    let inquiry = |unit: &dyn Unit| {
        let bytes = data(answer(unit.start(&command(&[0x12, 0, 0, 0, 255, 0], 255, &[]))));
        decode("sg_inq", &["--inhex=-", "--descriptors"], &bytes)
    };
    let disk = inquiry(&unit());
    says(
        &disk,
        &["PDT=0 RMB=0", "[SPC-4]", "CmdQue=1", "length=74", "type: disk", "Busman", "Virtual Disk", "1.0"],
    );
    says(&disk, &["SAM-5", "SPC-4", "SBC-3"]);
    let dvd = inquiry(&drive());
    says(&dvd, &["PDT=5 RMB=1", "cd/dvd", "Virtual DVD-ROM", "MMC-6"]);
}

#[test]
#[ignore = "needs sg3-utils"]
fn vital_product_data() {
    let page = |unit: &dyn Unit, page| {
        let bytes = data(answer(unit.start(&command(&[0x12, 1, page, 0, 255, 0], 255, &[]))));
        decode("sg_vpd", &["--inhex=-"], &bytes)
    };
    let (disk, dvd) = (unit(), drive());
    let pages = page(&disk, 0x00);
    says(&pages, &["Supported VPD pages", "Unit serial number", "Device identification", "Block limits"]);
    says(&pages, &["Block device characteristics", "Logical block provisioning"]);
    says(&page(&disk, 0x80), &["Unit serial number: S/N 1"]);
    says(
        &page(&disk, 0x83),
        &[
            "Addressed logical unit: designator type: NAA, code set: Binary 0x3",
            "designator type: T10 vendor identification, code set: ASCII vendor id: Busman",
            "vendor specific: Virtual Disk S/N 1",
        ],
    );
    let limits = [
        "Write same non-zero (WSNZ): 1",
        "Maximum compare and write length: 0 blocks",
        "Optimal transfer length granularity: 8 blocks",
        "Maximum transfer length: 2048 blocks",
        "Maximum unmap LBA count: 2097152",
        "Maximum unmap block descriptor count: 256",
        "Optimal unmap granularity: 8 blocks",
        "Unmap granularity alignment valid: true",
        "Maximum write same length: 0x20000 blocks",
    ];
    says(&page(&disk, 0xB0), &limits);
    says(&page(&disk, 0xB1), &["Non-rotating medium"]);
    let provisioning =
        ["(LBPU): 1", "(LBPWS): 1", "(LBPWS10): 1", "(LBPRZ): 1", "(ANC_SUP): 0", "(thin provisioned)"];
    says(&page(&disk, 0xB2), &provisioning);
    says(&page(&dvd, 0x80), &["Unit serial number: DVD1"]);
    says(&page(&dvd, 0x83), &["NAA", "vendor specific: Virtual DVD-ROM DVD1"]);
}

#[test]
#[ignore = "needs sg3-utils"]
fn sense_data() {
    let sense = |unit: &dyn Unit, cdb: &[u8]| {
        let reply = answer(unit.start(&command(cdb, 512, &[])));
        decode("sg_decode_sense", &["--file=-"], &reply.sense.unwrap().to_bytes())
    };
    let disk = unit_of(geometry());
    says(&sense(&disk, &[0; 6]), &["Fixed format, current", "Unit Attention", "Power on, reset"]);
    says(
        &sense(&disk, &[0x28, 0, 0, 0, 0x03, 0xE8, 0, 0, 1, 0]),
        &["Illegal Request", "Logical block address out of range", "Info fld=0x3e8"],
    );
    says(
        &sense(&disk, &[0x28, 0x20, 0, 0, 0, 0, 0, 0, 1, 0]),
        &["Invalid field in cdb", "Error in Command: byte 1 bit 7"],
    );
    says(&sense(&disk, &[0x04; 6]), &["Invalid command operation code"]);
    let dvd = ready(drive());
    says(&sense(&dvd, &[0; 6]), &["Not Ready", "Medium not present - tray closed"]);
}

#[test]
#[ignore = "needs sg3-utils"]
fn names_of_operation_codes() {
    let supported = |unit: &dyn Unit| {
        let cdb = [0xA3, 0x0C, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0];
        data(answer(unit.start(&command(&cdb, 4096, &[]))))[4..]
            .chunks(8)
            .map(|it| (it[0], it[3], it[7]))
            .collect()
    };
    let lists: [Vec<(u8, u8, u8)>; 2] = [supported(&unit()), supported(&ready(drive()))];
    for (opcode, action, len) in lists.concat() {
        let mut cdb = vec![0; len.into()];
        (cdb[0], cdb[1]) = (opcode, action);
        let name = decode("sg_decode_sense", &["--cdb", "--file=-"], &cdb);
        assert!(!name.contains("opcode=") && !name.is_empty(), "{cdb:02x?}: {name}");
    }
}
