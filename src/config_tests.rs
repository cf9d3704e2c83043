//! Options merged and checked, with files made up here.

use super::*;
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
    assert_eq!((config.kernel, config.cmdline.as_str()), (kernel, "console=ttyS0"));
    assert_eq!(
        (config.cpus, config.memory, config.hyperv.as_str(), config.once),
        (1, 1 << 30, "default", false)
    );
    assert_eq!(config.devices, DEVICES);
}

#[test]
fn sizes_have_units_and_limits() {
    for (text, bytes) in
        [("64M", 64 * MIB), ("512m", 512 * MIB), ("2G", 2 << 30), ("2GiB", 2 << 30), ("4T", 4 << 40)]
    {
        assert_eq!(text.parse(), Ok(MemorySize(bytes)), "{text}");
    }
    let error = |text: &str| text.parse::<MemorySize>().unwrap_err().to_string();
    assert_eq!(error("512"), "512 has no unit; write 512M or 512G");
    assert_eq!(error("63M"), "63M is too little memory; the least is 64M");
    assert_eq!(error("5T"), "5T is too much memory; the most is 4T");
    assert_eq!(error("99999999999999G"), "99999999999999G is too much memory; the most is 4T");
    for text in ["", "G", "1.5G", "-1G", "2 G", "2X", "99999999999999999999G", "2Gé"] {
        assert!(error(text).contains("is no size"), "{text}");
    }
}

#[test]
fn a_file_has_the_same_names_and_relative_paths() {
    let (directory, _) = machine();
    let file = directory.as_path().join("vm.toml");
    let text =
        "kernel = 'vmlinuz'\nmemory = '2G'\ncpus = 4\nonce = true\ndevices = ['heartbeat']\nhyperv = '-ipi'";
    fs::write(&file, text).unwrap();
    let config = Options::from_file(&file).unwrap().check().unwrap();
    assert_eq!(config.kernel, directory.as_path().join("vmlinuz"));
    assert_eq!((config.memory, config.cpus, config.once), (2 << 30, 4, true));
    assert_eq!((config.devices, config.hyperv.as_str()), (vec!["heartbeat".to_owned()], "-ipi"));
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
    assert!(fail(&|o| o.kernel = None).starts_with("No kernel given"));
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
        "Unknown device \"disk\"; devices are shutdown, heartbeat, timesync, or none"
    );
    assert_eq!(
        fail(&|o| o.devices = Some(vec!["heartbeat".into(); 2])),
        "Device heartbeat is named twice in --devices"
    );
}

#[test]
fn none_is_an_empty_list_of_devices() {
    let (_directory, options) = machine();
    let none = Options { devices: Some(vec![NO_DEVICES.into()]), ..options };
    assert!(none.check().unwrap().devices.is_empty());
}
