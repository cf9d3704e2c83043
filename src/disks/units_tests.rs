//! A machine's disks without a machine: a bus in memory, images in a directory.

use super::*;
use devices::testing::TestGuest;
use vmm_sys_util::tempdir::TempDir;

struct Machine {
    bus: TestGuest,
    disks: Disks,
    directory: TempDir,
}

impl Machine {
    fn new() -> Self {
        let directory = TempDir::new_with_prefix("/tmp/busman-disks").unwrap();
        Machine { bus: TestGuest::default(), disks: Disks::new(4), directory }
    }

    /// An image of zeroes.
    fn image(&self, name: &str, size: u64) -> String {
        let path = self.directory.as_path().join(name);
        std::fs::File::create(&path).unwrap().set_len(size).unwrap();
        path.display().to_string()
    }

    fn add(&mut self, unit: Unit) -> Result<Place, String> {
        let place = self.disks.place(&unit).map_err(|error| error.to_string())?;
        self.disks
            .add(&mut self.bus.bus, &UnitConfig::new(place, unit))
            .map_err(|error| format!("{:#}", anyhow::Error::new(error)))?;
        Ok(place)
    }

    fn disk(&mut self, words: &str) -> Result<Place, String> {
        self.add(Unit::Disk(words.parse().unwrap()))
    }

    fn dvd(&mut self, words: &str) -> Result<Place, String> {
        self.add(Unit::Dvd(words.parse().unwrap()))
    }
}

fn place(text: &str) -> Place {
    text.parse().unwrap()
}

#[test]
fn disks_are_where_they_should_be_and_their_controllers_come_with_them() {
    let mut machine = Machine::new();
    let (first, second) = (machine.image("a.img", 1 << 20), machine.image("b.raw", 3 << 20));
    assert_eq!(machine.disk(&first), Ok(place("0:0")));
    assert_eq!(
        machine.disk(&format!("{second},controller=2,lun=9,readonly=on,sector=4096")),
        Ok(place("2:9"))
    );
    let rows = machine.disks.rows();
    let shapes: Vec<_> =
        rows.iter().map(|row| (row.controller, row.lun, row.size, row.sector, row.readonly)).collect();
    assert_eq!(shapes, [(0, 0, 1 << 20, 512, false), (2, 9, 3 << 20, 4096, true)]);
    assert_eq!((rows[0].kind.as_str(), rows[0].path.as_deref()), ("disk", Some(first.as_str())));
    let bus = &machine.bus.bus;
    assert!(bus.find("scsi0").is_some() && bus.find("scsi1").is_none() && bus.find("scsi2").is_some());
}

#[test]
fn what_cannot_be_is_said_with_the_files_name_and_the_reason() {
    let mut machine = Machine::new();
    let image = machine.image("a.img", 1 << 20);
    machine.disk(&image).unwrap();
    let odd = machine.image("odd.img", 512 * 3);
    let missing = image.replace("a.img", "missing.img");
    for (words, sentence) in [
        (missing.clone(), "missing.img: No such file"),
        (format!("{odd},sector=4096"), "odd.img cannot be used: It has 1536 bytes, which is no multiple"),
        (format!("{odd},lun=0"), "There cannot be two disks at controller 0, LUN 0"),
        (format!("{odd},lun=64"), "A controller has the LUNs 0 to 63, but no LUN 64"),
        (format!("{odd},serial="), "\"\" is no serial number"),
        (image.clone(), "a.img: It is in use by"),
    ] {
        let error = machine.disk(&words).unwrap_err();
        assert!(error.contains(sentence), "{words}: {error}");
    }
    let error = machine.dvd(&missing).unwrap_err();
    assert!(error.contains("missing.img: No such file"), "{error}");
    assert_eq!(machine.disks.rows().len(), 1, "and nothing has changed");
}

#[test]
fn a_removed_disk_lets_its_image_go() {
    let mut machine = Machine::new();
    let image = machine.image("a.img", 1 << 20);
    let there = machine.disk(&image).unwrap();
    machine.disks.remove(there).unwrap();
    assert!(matches!(machine.disks.remove(there), Err(UnitError::Absent(_))));
    assert_eq!(machine.disk(&format!("{image},lun=5")), Ok(place("0:5")));
}

#[test]
fn a_guest_that_loses_a_controller_with_disks_waits_for_ever() {
    let mut machine = Machine::new();
    let image = machine.image("a.img", 1 << 20);
    let there = machine.disk(&image).unwrap();
    let refused = machine.disks.release_controller("scsi0").unwrap_err();
    assert!(refused.to_string().contains("what is at 0:0: remove that first"), "{refused}");
    assert_eq!(machine.disks.rows().len(), 1);
    machine.disks.remove(there).unwrap();
    let refused = machine.disks.release_controller("scsi0").unwrap_err();
    assert!(refused.to_string().contains("letting go of what was at 0:0"), "{refused}");
    let long_ago = Instant::now().checked_sub(LETTING_GO).unwrap();
    machine.disks.removed.insert(there, long_ago);
    machine.disks.release_controller("scsi0").unwrap();
    let id = machine.bus.bus.find("scsi0").unwrap();
    machine.bus.bus.remove(id);
    machine.bus.bus.process();
    // It comes back with the next disk.
    assert_eq!(machine.disk(&image), Ok(place("0:0")));
    assert!(machine.bus.bus.find("scsi0").is_some());
}

#[test]
fn discs_come_and_go() {
    let mut machine = Machine::new();
    let (first, second) = (machine.image("a.iso", 1 << 20), machine.image("b.iso", 2 << 20));
    let disk = machine.image("c.img", 1 << 20);
    let drive = machine.dvd("lun=3").unwrap();
    let row = machine.disks.row(drive).unwrap();
    assert_eq!((row.kind.as_str(), row.path, row.size), ("dvd", None, 0));
    machine.disks.insert(drive, Path::new(&first)).unwrap();
    machine.disks.insert(drive, Path::new(&second)).unwrap();
    let row = machine.disks.row(drive).unwrap();
    assert_eq!((row.path.as_deref(), row.size, row.readonly), (Some(second.as_str()), 2 << 20, true));
    assert_eq!(machine.disks.eject(drive, false).unwrap(), Ejected::Done);
    assert_eq!(machine.disks.row(drive).unwrap().path, None);
    let there = machine.disk(&disk).unwrap();
    assert!(matches!(machine.disks.eject(there, true), Err(UnitError::NotADrive(_))));
    assert!(matches!(machine.disks.eject(place("0:9"), true), Err(UnitError::Absent(_))));
}
