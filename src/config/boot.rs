//! What a machine starts with: a kernel, or firmware that finds something to boot.

use std::path::PathBuf;
use std::str::FromStr;

use devices::guid::{Guid, GuidError};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

use super::{ConfigError, Options, check_file};
use crate::boot::BootSource;
use crate::boot::uefi::FirmwareSource;

/// What the machine starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Boot {
    /// A Linux kernel, without firmware.
    Kernel(BootSource),
    /// UEFI firmware.
    Firmware(FirmwareSource),
}

/// A machine's UUID as users write it.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct Uuid(pub Guid);

impl FromStr for Uuid {
    type Err = GuidError;

    fn from_str(text: &str) -> Result<Self, GuidError> {
        text.parse().map(Uuid)
    }
}

impl TryFrom<String> for Uuid {
    type Error = GuidError;

    fn try_from(text: String) -> Result<Self, GuidError> {
        text.parse()
    }
}

/// The options that go with a kernel, and those that go with firmware; either, not both.
pub(super) fn check(options: &Options) -> Result<Boot, ConfigError> {
    let Options {
        kernel,
        initrd,
        cmdline,
        firmware,
        firmware_console,
        no_front_page,
        watchdog,
        uuid,
        smbios,
        nvram,
        imc,
        ..
    } = options;
    match (kernel, firmware) {
        (None, None) => Err(ConfigError::NothingToBoot),
        (Some(_), Some(_)) => Err(ConfigError::KernelAndFirmware),
        (Some(kernel), None) => {
            only_with(
                "firmware",
                &[
                    ("firmware-console", firmware_console.is_some()),
                    ("no-front-page", *no_front_page),
                    ("watchdog", *watchdog),
                    ("uuid", uuid.is_some()),
                    ("smbios", smbios.is_some()),
                    ("nvram", nvram.is_some()),
                    ("imc", imc.is_some()),
                ],
            )?;
            check_file("kernel", kernel)?;
            if let Some(initrd) = initrd {
                check_file("initrd", initrd)?;
            }
            let cmdline = cmdline.clone().unwrap_or_else(|| "console=ttyS0".to_owned());
            Ok(Boot::Kernel(BootSource { kernel: kernel.clone(), initrd: initrd.clone(), cmdline }))
        }
        (None, Some(image)) => {
            only_with("kernel", &[("initrd", initrd.is_some()), ("cmdline", cmdline.is_some())])?;
            check_file("firmware", image)?;
            Ok(Boot::Firmware(FirmwareSource {
                image: image.clone(),
                uuid: uuid.map(|Uuid(uuid)| uuid),
                smbios: smbios.clone().unwrap_or_default(),
                console: firmware_console.unwrap_or_default(),
                front_page: !no_front_page,
                watchdog: *watchdog,
            }))
        }
    }
}

/// Refuses options that go with one of the two, while the other is what boots.
fn only_with(with: &'static str, options: &[(&'static str, bool)]) -> Result<(), ConfigError> {
    match options.iter().find(|(_, given)| *given) {
        Some(&(option, _)) => Err(ConfigError::OnlyWith { option, with }),
        None => Ok(()),
    }
}

/// The same names for both, so that a reader finds what it looks for, or null.
impl Serialize for Boot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        let (kernel, firmware) = match self {
            Boot::Kernel(source) => (Some(source), None),
            Boot::Firmware(source) => (None, Some(source)),
        };
        let mut fields = serializer.serialize_struct("Boot", 4)?;
        fields.serialize_field("kernel", &kernel.map(|source| text(&source.kernel)))?;
        fields.serialize_field("initrd", &kernel.and_then(|source| source.initrd.as_ref().map(text)))?;
        fields.serialize_field("cmdline", &kernel.map(|source| &source.cmdline))?;
        fields.serialize_field("firmware", &firmware)?;
        fields.end()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;
    use crate::boot::uefi::Console;
    use std::fs;
    use vmm_sys_util::tempdir::TempDir;

    const UUID: &str = "00112233-4455-6677-8899-aabbccddeeff";

    /// A directory with an image, and options that are enough to boot it.
    fn machine() -> (TempDir, Options) {
        let directory = TempDir::new_with_prefix("/tmp/busman-config").unwrap();
        let image = directory.as_path().join("MSVM.fd");
        fs::write(&image, "image").unwrap();
        (directory, Options { firmware: Some(image), ..Options::default() })
    }

    fn firmware(config: Config) -> FirmwareSource {
        match config.boot {
            Boot::Firmware(source) => source,
            Boot::Kernel(source) => panic!("{source:?}"),
        }
    }

    #[test]
    fn a_firmware_is_enough() {
        let (_directory, options) = machine();
        let one = firmware(options.clone().check().unwrap());
        assert_eq!(
            (&one.image, one.console, one.front_page),
            (&options.firmware.unwrap(), Console::Com1, true)
        );
        assert_eq!(one.uuid, None, "the file of variables may know it");
    }

    #[test]
    fn a_file_says_the_same_as_the_command_line() {
        let (directory, _) = machine();
        let file = directory.as_path().join("vm.toml");
        let text = format!(
            "firmware = 'MSVM.fd'\nfirmware-console = 'screen'\nno-front-page = true\nwatchdog = true\nuuid = '{UUID}'\nsmbios = {{ serial = 'S-1, left' }}"
        );
        fs::write(&file, text).unwrap();
        let config = Options::from_file(&file).unwrap().check().unwrap();
        let json = serde_json::to_value(&config).unwrap();
        let image = directory.as_path().join("MSVM.fd");
        let wanted = serde_json::json!({"image": image, "uuid": UUID, "smbios": {"serial": "S-1, left"}, "console": "screen", "front_page": false, "watchdog": true});
        assert_eq!(json["firmware"], wanted);
        assert_eq!([&json["kernel"], &json["initrd"], &json["cmdline"]], [&serde_json::Value::Null; 3]);
        let wanted = FirmwareSource {
            image,
            uuid: UUID.parse().ok(),
            smbios: "serial=S-1,, left".parse().unwrap(),
            console: Console::Screen,
            front_page: false,
            watchdog: true,
        };
        assert_eq!(firmware(config), wanted);
    }

    #[test]
    fn kernel_and_firmware_do_not_go_together() {
        let (_directory, options) = machine();
        let fail = |change: &dyn Fn(&mut Options)| {
            let mut options = options.clone();
            change(&mut options);
            options.check().unwrap_err().to_string()
        };
        assert_eq!(
            fail(&|o| o.kernel.clone_from(&o.firmware)),
            "A machine starts with a kernel or with firmware: give --kernel or --firmware, not both"
        );
        assert_eq!(
            fail(&|o| o.cmdline = Some("quiet".into())),
            "--cmdline goes with --kernel, which is not given"
        );
        assert_eq!(fail(&|o| o.initrd = Some("i".into())), "--initrd goes with --kernel, which is not given");
        let kernel = |o: &mut Options| o.kernel = o.firmware.take();
        for (option, change) in [
            ("firmware-console", (|o| o.firmware_console = Some(Console::None)) as fn(&mut Options)),
            ("no-front-page", |o| o.no_front_page = true),
            ("watchdog", |o| o.watchdog = true),
            ("uuid", |o| o.uuid = UUID.parse().ok()),
            ("smbios", |o| o.smbios = "serial=1".parse().ok()),
            ("nvram", |o| o.nvram = Some("n".into())),
            ("imc", |o| o.imc = Some("i".into())),
        ] {
            let text = fail(&|o| {
                kernel(o);
                change(o);
            });
            assert_eq!(text, format!("--{option} goes with --firmware, which is not given"));
        }
        assert!(fail(&|o| o.firmware = None).starts_with("Nothing to boot"));
        assert_eq!(
            "0011".parse::<Uuid>().unwrap_err().to_string(),
            "\"0011\" is no GUID; it looks like xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx, in hexadecimal digits"
        );
    }
}
