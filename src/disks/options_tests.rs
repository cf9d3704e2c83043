//! Words for disks, right and wrong.

use super::*;

#[test]
fn a_disk_in_all_its_words() {
    let text = "path=a,,b.vhdx,controller=1,lun=2,readonly=on,cache=none,format=vhdx,iops=100,bandwidth=10M,\
                serial=S 1,sector=4096,parents=/a,parents=/b";
    let disk = DiskOptions {
        path: "a,b.vhdx".into(),
        controller: Some(1),
        lun: Some(2),
        readonly: true,
        cache: Cache::None,
        format: Some(FormatName(Format::Vhdx)),
        iops: NonZeroU64::new(100),
        bandwidth: Some(Bandwidth(10 << 20)),
        serial: Some("S 1".into()),
        sector: Some(4096),
        parents: vec!["/a".into(), "/b".into()],
    };
    assert_eq!(text.parse(), Ok(disk.clone()));
    let toml = "path = 'a,b.vhdx'\ncontroller = 1\nlun = 2\nreadonly = true\ncache = 'none'\nformat = 'vhdx'\n\
                iops = 100\nbandwidth = '10M'\nserial = 'S 1'\nsector = 4096\nparents = ['/a', '/b']";
    assert_eq!(toml::from_str(toml), Ok(disk.clone()));
    let unit = UnitConfig { place: Place { controller: 1, lun: 2 }, unit: Unit::Disk(disk) };
    let json = serde_json::to_value(unit).unwrap();
    for (key, value) in [("controller", "1"), ("lun", "2"), ("kind", "\"disk\""), ("cache", "\"none\"")] {
        assert_eq!(json[key].to_string(), value);
    }
}

#[test]
fn a_path_needs_no_word() {
    for text in ["win.vhdx", "path=win.vhdx"] {
        let disk: DiskOptions = text.parse().unwrap();
        assert_eq!(disk, DiskOptions { path: "win.vhdx".into(), ..DiskOptions::default() });
    }
    let disk: DiskOptions = "/a=b/win.vhdx,cache=unsafe".parse().unwrap();
    assert_eq!((disk.path, disk.cache), ("/a=b/win.vhdx".into(), Cache::Unsafe));
    let dvd = |text: &str| text.parse::<DvdOptions>().unwrap();
    assert_eq!(
        dvd("win.iso,lun=3"),
        DvdOptions { path: Some("win.iso".into()), lun: Some(3), controller: None }
    );
    assert_eq!(dvd("controller=0").path, None);
}

#[test]
fn mistakes_are_named_with_the_fix() {
    for (text, sentence) in [
        ("", "A disk needs an image: write path=FILE"),
        ("lun=1", "A disk needs an image: write path=FILE"),
        ("a.img,read-only=on", "\"read-only\" is no option of a disk; options are path, controller, lun, "),
        ("file=a.img", "\"file\" is no option of a disk; options are path"),
        ("a.img,readonly", "\"readonly\" has no value; write readonly=VALUE"),
        ("a.img,readonly=yes", "readonly=yes makes no sense: it must be on or off"),
        ("a.img,cache=writethrough", "it must be writeback or none or unsafe"),
        ("a.img,lun=300", "lun=300 makes no sense: number too large"),
        ("a.img,iops=0", "iops=0 makes no sense"),
        ("a.img,bandwidth=100", "100 has no unit; write 100M or 100G"),
        ("a.img,format=vmdk", "no disk format; formats are raw"),
        ("a.img,sector=520", "it must be 512 or 4096"),
        ("a.img,path=b.img", "path is given twice"),
    ] {
        let error = text.parse::<DiskOptions>().unwrap_err().to_string();
        assert!(error.contains(sentence), "{text}: {error}");
    }
    let error = "a.iso,cache=none".parse::<DvdOptions>().unwrap_err().to_string();
    assert_eq!(error, "\"cache\" is no option of a DVD drive; options are path, controller, lun");
}
