//! Options merged and checked, with files made up here.

use super::device_list::{DEFAULT_DEVICES, DISPLAY, LOOPBACK, NO_DEVICES};
use super::*;
use crate::boot::BootSource;
use crate::size::FileSize;
use devices::vmbus::trace::TracedPackets;
use vmm_sys_util::tempdir::TempDir;

/// A directory with a kernel, and options that are enough to boot it.
fn machine() -> (TempDir, Options) {
    let directory = TempDir::new_with_prefix("/tmp/busman-config").unwrap();
    let kernel = directory.as_path().join("vmlinuz");
    fs::write(&kernel, "kernel").unwrap();
    (directory, Options { kernel: Some(kernel), ..Options::default() })
}

#[test]
fn a_kernel_is_enough() {
    let (_directory, options) = machine();
    let kernel = options.kernel.clone().unwrap();
    let config = options.check().unwrap();
    assert_eq!(
        config.boot,
        Boot::Kernel(BootSource { kernel, initrd: None, cmdline: "console=ttyS0".into() })
    );
    assert_eq!(
        (config.cpus, config.memory, config.hyperv.as_str(), config.once),
        (1, 1 << 30, "default", false)
    );
    assert_eq!(config.devices, DEVICES[..DEFAULT_DEVICES]);
}

#[test]
fn a_file_has_the_same_names_and_relative_paths() {
    let (directory, _) = machine();
    let file = directory.as_path().join("vm.toml");
    let text =
        "kernel = 'vmlinuz'\nmemory = '2G'\ncpus = 4\nonce = true\ndevices = ['heartbeat']\nhyperv = '-ipi'";
    fs::write(&file, text).unwrap();
    let config = Options::from_file(&file).unwrap().check().unwrap();
    let Boot::Kernel(source) = config.boot else { panic!("{:?}", config.boot) };
    assert_eq!(source.kernel, directory.as_path().join("vmlinuz"));
    assert_eq!((config.memory, config.cpus, config.once), (2 << 30, 4, true));
    assert_eq!((config.devices, config.hyperv.as_str()), (vec!["heartbeat".to_owned()], "-ipi"));
}

#[test]
fn disks_are_placed_and_their_paths_are_relative_to_the_file() {
    let (directory, _) = machine();
    let file = directory.as_path().join("vm.toml");
    let text = "kernel = 'vmlinuz'\n[[disk]]\npath = 'a.vhdx'\n[[disk]]\npath = '/b.img'\nlun = 0\n[[dvd]]\n";
    fs::write(&file, text).unwrap();
    let line = Options { disks: vec!["c.img,controller=1".parse().unwrap()], ..Options::default() };
    let config = line.or(Options::from_file(&file).unwrap()).check().unwrap();
    let paths = config.disks.iter().map(|config| match &config.unit {
        Unit::Disk(disk) => format!("{} {}", config.place, disk.path.display()),
        Unit::Dvd(dvd) => format!("{} {:?}", config.place, dvd.path),
    });
    let a = directory.as_path().join("a.vhdx");
    let wanted = ["0:0 /b.img", &format!("0:1 {}", a.display()), "0:2 None", "1:0 c.img"];
    assert_eq!(paths.collect::<Vec<_>>(), wanted);
    let twice = vec!["a,lun=1".parse().unwrap(), "b,lun=1".parse().unwrap()];
    let error = Options { disks: twice, ..machine().1 }.check().unwrap_err();
    assert!(matches!(error, ConfigError::Place(PlaceError::Taken(_))), "{error}");
}

#[test]
fn the_command_line_wins_over_the_file() {
    let file = Options { cpus: Some(4), memory: Some(MemorySize(2 << 30)), once: true, ..Options::default() };
    let line = Options { cpus: Some(2), ..Options::default() };
    let wanted =
        Options { cpus: Some(2), memory: Some(MemorySize(2 << 30)), once: true, ..Options::default() };
    assert_eq!(line.or(file), wanted);
}

#[test]
fn a_misspelt_name_in_a_file_is_an_error_that_shows_the_line() {
    let (directory, _) = machine();
    let file = directory.as_path().join("vm.toml");
    for (text, hint) in
        [("memroy = '1G'", "memroy"), ("memory = '1'", "1 has no unit"), ("cpus = 'two'", "cpus")]
    {
        fs::write(&file, text).unwrap();
        let error = Options::from_file(&file).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains(hint), "{cause}");
    }
}

#[test]
fn mistakes_are_sentences() {
    let (directory, options) = machine();
    let fail = |change: &dyn Fn(&mut Options)| {
        let mut options = options.clone();
        change(&mut options);
        options.check().unwrap_err().to_string()
    };
    assert!(fail(&|o| o.kernel = None).starts_with("Nothing to boot"));
    assert_eq!(
        fail(&|o| o.kernel = Some("/nonexistent".into())),
        "Cannot read /nonexistent, which --kernel names"
    );
    let path = directory.as_path().to_owned();
    assert!(fail(&|o| o.initrd = Some(path.clone())).ends_with("is not a file; --initrd needs one"));
    assert_eq!(fail(&|o| o.cpus = Some(0)), "A machine needs at least one CPU; --cpus is 0");
    assert!(fail(&|o| o.report = Some("/nonexistent/report".into())).contains("directory does not exist"));
    assert_eq!(
        fail(&|o| o.devices = Some(vec!["disk".into()])),
        "Unknown device \"disk\"; devices are shutdown, heartbeat, timesync, kvp, vss, fcopy, video, keyboard, mouse, loopback, or none"
    );
    assert_eq!(
        fail(&|o| o.devices = Some(vec!["heartbeat".into(); 2])),
        "Device heartbeat is named twice in --devices"
    );
    assert_eq!(
        fail(&|o| o.trace_packets = Some(vec!["all".into()])),
        "--trace-packets is about a trace; name its file with --trace FILE.pcapng"
    );
    assert!(fail(&|o| o.trace_limit = Some(FileSize(1 << 20))).starts_with("--trace-limit is about a trace"));
    assert_eq!(
        fail(&|o| o.api_socket = Some("/nonexistent/s".into())),
        "Cannot create the socket /nonexistent/s: its directory does not exist"
    );
    assert!(
        fail(&|o| o.trace = Some("/nonexistent/t".into()))
            .starts_with("Cannot create the trace /nonexistent/t: its directory")
    );
    assert_eq!(
        fail(&|o| {
            o.trace = Some(path.join("t.pcapng"));
            o.trace_packets = Some(vec!["heartbeat".into(), "all".into()]);
        }),
        "Cannot trace the packets of \"all\"; devices are shutdown, heartbeat, timesync, kvp, vss, fcopy, video, keyboard, mouse, loopback, imc, scsi0 and so on, or all"
    );
}

#[test]
fn a_trace_is_of_messages_alone_unless_packets_are_asked_for() {
    let (directory, options) = machine();
    let file = directory.as_path().join("t.pcapng");
    let trace = |packets: Option<&[&str]>| {
        let packets = packets.map(|names| names.iter().map(ToString::to_string).collect());
        let options = Options { trace: Some(file.clone()), trace_packets: packets, ..options.clone() };
        options.check().unwrap().trace.unwrap()
    };
    let plain = trace(None);
    assert_eq!((plain.file, plain.packets, plain.limit), (file.clone(), TracedPackets::None, 256 << 20));
    assert_eq!(trace(Some(&["all"])).packets, TracedPackets::All);
    let one = TracedPackets::Of(["heartbeat".to_owned()].into());
    assert_eq!(trace(Some(&["heartbeat", "heartbeat"])).packets, one);
    assert_eq!(options.check().unwrap().trace, None);
}

#[test]
fn none_is_an_empty_list_of_devices() {
    let (_directory, options) = machine();
    let none = Options { devices: Some(vec![NO_DEVICES.into()]), ..options };
    assert!(none.check().unwrap().devices.is_empty());
}

#[test]
fn the_loopback_device_is_there_when_asked_for_in_either_way() {
    let (_directory, options) = machine();
    let devices = |names: Option<&[&str]>, loopback| {
        let devices = names.map(|names| names.iter().map(|&name| name.to_owned()).collect());
        Options { devices, loopback, ..options.clone() }.check().unwrap().devices
    };
    assert_eq!(devices(None, true), [&DEVICES[..DEFAULT_DEVICES], &[LOOPBACK]].concat());
    assert_eq!(devices(Some(&[NO_DEVICES]), true), [LOOPBACK]);
    assert_eq!(devices(Some(&["loopback", "heartbeat"]), true), ["loopback", "heartbeat"]);
    assert_eq!(devices(Some(&["heartbeat", "loopback"]), false), ["heartbeat", "loopback"]);
}

#[test]
fn vnc_brings_a_display_and_its_files_must_be_there() {
    let (directory, options) = machine();
    let vnc = |text: &str| Options { vnc: Some(text.parse().unwrap()), ..options.clone() }.check();
    let config = vnc("127.0.0.1:0").unwrap();
    assert_eq!(config.devices, [&DEVICES[..DEFAULT_DEVICES], &DISPLAY].concat());
    assert_eq!(serde_json::to_value(config).unwrap()["vnc"], "127.0.0.1:0");
    let error = |text: &str| vnc(text).unwrap_err().to_string();
    assert_eq!(
        error("127.0.0.1:0,password-file=/nonexistent"),
        "Cannot read /nonexistent, which --vnc names"
    );
    assert!(error("unix:/nonexistent/vnc").starts_with("Cannot create the socket /nonexistent/vnc"));
    let file = directory.as_path().join("vm.toml");
    fs::write(&file, "kernel = 'vmlinuz'\nvnc = 'unix:vnc,password-file=vmlinuz'").unwrap();
    let config = Options::from_file(&file).unwrap().check().unwrap();
    let path = directory.as_path().display();
    assert_eq!(config.vnc.unwrap().to_string(), format!("unix:{path}/vnc,password-file={path}/vmlinuz"));
    fs::write(&file, "vnc = '0.0.0.0:5900'").unwrap();
    let error = Options::from_file(&file).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("add password-file=FILE"), "{cause}");
}

#[test]
fn a_display_is_there_when_asked_for_in_either_way() {
    let (_directory, options) = machine();
    let config = |names: Option<&[&str]>, display: Option<&str>| {
        let devices = names.map(|names| names.iter().map(|&name| name.to_owned()).collect());
        let display = display.map(|size| size.parse().unwrap());
        let config = Options { devices, display, ..options.clone() }.check().unwrap();
        (config.devices.join(" "), config.display.to_string())
    };
    let defaults = DEVICES[..DEFAULT_DEVICES].join(" ");
    assert_eq!(config(None, None).0, defaults);
    let with_display = format!("{defaults} video keyboard mouse");
    assert_eq!(config(None, Some("800x600")), (with_display, "800x600".into()));
    assert_eq!(config(Some(&["mouse", "video"]), None), ("mouse video".into(), "1024x768".into()));
    assert_eq!(config(Some(&["mouse"]), Some("640x480")).0, "mouse video keyboard");
    assert_eq!(config(Some(&[NO_DEVICES]), Some("640x480")).0, "video keyboard mouse");
}

#[test]
fn a_configuration_has_a_form_in_json() {
    let (_directory, options) = machine();
    let packets = Some(vec!["heartbeat".into()]);
    let trace = Options { trace: Some("t".into()), trace_packets: packets, ..options };
    let json = serde_json::to_value(trace.check().unwrap()).unwrap();
    assert_eq!(json["trace"], serde_json::json!({"file": "t", "packets": ["heartbeat"], "limit": 256 << 20}));
    assert_eq!((&json["initrd"], &json["cpus"]), (&serde_json::Value::Null, &1.into()));
}

#[test]
fn variables_go_with_firmware_and_their_file_may_be_new() {
    let (directory, options) = machine();
    let path = |name: &str| Some(directory.as_path().join(name));
    let nvram = |name| {
        let options =
            Options { kernel: None, firmware: options.kernel.clone(), nvram: path(name), ..options.clone() };
        options.check().map(|config| config.nvram)
    };
    for name in ["vm.nvram", "vmlinuz"] {
        assert_eq!(nvram(name).unwrap(), path(name));
    }
    assert!(matches!(nvram("no/vm.nvram"), Err(ConfigError::NoDirectory { .. })));
    assert!(matches!(nvram(""), Err(ConfigError::NotAFile { .. })));
}

#[test]
fn a_tpms_state_is_in_a_directory_that_can_be_made() {
    let (directory, options) = machine();
    let tpm = |text: &str| {
        let tpm = text.parse().unwrap();
        Options { tpm: Some(tpm), ..options.clone() }.check().map(|config| config.tpm.unwrap().to_string())
    };
    let path = |name: &str| directory.as_path().join(name).display().to_string();
    for text in [path("tpm"), path(""), "unix:/no/such/socket".to_owned()] {
        assert_eq!(tpm(&text).unwrap(), text);
    }
    assert!(matches!(tpm(&path("no/tpm")), Err(ConfigError::NoDirectory { .. })));
}
