//! The command line, as clap sees it. What the options mean is [`config`](crate::config)'s.

use std::io::Write;
use std::path::PathBuf;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::config::{Config, ConfigError, Options};
use crate::ctl::{Ctl, Guest, Screenshot};
use crate::image::Image;
use crate::imc::Imc;
use crate::nvram::Nvram;

const RUN_EXAMPLES: &str = "\
Examples:
  Boot a kernel with its initrd; the console is this terminal:
    busman run --kernel /boot/vmlinuz --initrd initrd.img --cpus 2 --memory 2G

  The same from a file (names are those of the options; the command line wins):
    busman run --config guest.toml --memory 4G

  Without direct timers, and without the clock service:
    busman run --config guest.toml --hyperv default,-stimer-direct --devices shutdown,heartbeat

  With a disk, and a DVD drive with a disc:
    busman run --config guest.toml --disk win.vhdx,cache=none --dvd setup.iso

  Boot what is on a disk, with UEFI firmware (MSVM.fd of microsoft/mu_msvm):
    busman run --firmware MSVM.fd --disk win.vhdx --cpus 4 --memory 8G

  With a display, a keyboard and a mouse:
    busman run --config guest.toml --display 1280x1024

  The same with a VNC server for viewers on this machine:
    busman run --config guest.toml --display 1280x1024 --vnc 127.0.0.1:5900

  With the bus recorded for Wireshark, and the packets of one device:
    busman run --config guest.toml --trace bus.pcapng --trace-packets heartbeat

While the guest runs, Ctrl-A is the escape key: Ctrl-A h shows help, Ctrl-A s asks the guest to
power off, Ctrl-A x stops at once. SIGTERM and SIGINT also ask; a second one stops at once.

Exit codes: 0 the guest powered off (or rebooted, with --once), 1 something went wrong, 2 usage.
BUSMAN_LOG=debug shows more of what happens.";

const CTL_EXAMPLES: &str = "\
Examples:
  busman run --config guest.toml --api-socket /run/user/1000/guest.sock
  busman ctl --socket /run/user/1000/guest.sock state
  busman ctl --socket /run/user/1000/guest.sock top
  busman ctl --socket /run/user/1000/guest.sock --json channels | jq '.[].device'
  curl --unix-socket /run/user/1000/guest.sock http://localhost/api/v1/vm

BUSMAN_SOCKET names the socket where --socket does not.";

const GUEST_EXAMPLES: &str = "\
Examples:
  busman guest --socket vm.sock info
  busman guest --socket vm.sock --json ip | jq -r '.ipv4[0]'
  busman guest --socket vm.sock set-ip f8615163-df3e-46c5-913f-f2d2f965ed0e 10.0.0.2/24 --gateway 10.0.0.1
  busman guest --socket vm.sock copy --create-path tools.tar /opt/tools/tools.tar

  A consistent copy of a disk while the guest runs:
    export BUSMAN_SOCKET=vm.sock
    busman guest freeze --for 600 && cp --reflink=auto disk.img backup.img; busman guest thaw
  If thaw fails because the time was over, the copy is worth nothing

The guest must run programs for it; in Debian they are in the package hyperv-daemons.";

const SCREENSHOT_EXAMPLES: &str = "\
Examples:
  busman screenshot --socket /run/user/1000/guest.sock guest.png
  curl --unix-socket /run/user/1000/guest.sock http://localhost/api/v1/vm/screen --output guest.png

BUSMAN_SOCKET names the socket where --socket does not.";

const IMAGE_EXAMPLES: &str = "\
Examples:
  A disk of 64 GiB that takes space as it fills:
    busman image create --size 64G disk.vhdx

  A disk that stores what differs from another, which must not change any more:
    busman image create --parent base.vhdx guest.avhdx

  An image from elsewhere, and back:
    busman image convert disk.qcow2 disk.vhdx
    busman image convert --from raw /dev/vg/guest disk.vhdx

  What it is, for a script:
    busman image info --json disk.vhdx | jq .size

A file's format is what its name says, unless an option says it; its content must agree.

Exit codes: 0 done, and for check: the image is good; 1 something went wrong, or damage; 2 usage.";

const NVRAM_EXAMPLES: &str = "\
Examples:
  What a machine's firmware and system keep, for people and for scripts:
    busman nvram list --file vm.nvram
    busman nvram list --file vm.nvram --json | jq '.[].name'

  One variable; a name without a GUID is one of UEFI's own:
    busman nvram get --file vm.nvram BootOrder
    busman nvram get --file vm.nvram --raw db >db.esl

  Boot the third entry first; bytes are in hexadecimal digits:
    busman nvram set --file vm.nvram BootOrder --hex '02 00 00 00 01 00'

  Secure Boot's keys, from a template of OpenVMM's, or each from a signed file:
    busman nvram secure-boot --file vm.nvram MicrosoftWindows_Template.json
    busman nvram set --file vm.nvram PK --auth PK.auth

  Put a machine into setup mode, without its platform key:
    busman nvram set --file vm.nvram PK --delete

  Forget all variables; and give a copy of the file to another machine:
    busman nvram reset --file vm.nvram
    busman nvram uuid --file copy.nvram $(uuidgen)

A running machine's file can be read, not changed. The host is the owner of the file: no signature is needed.";

const IMC_EXAMPLES: &str = "\
Examples:
  Settings in the form of Windows' registry editor, and a script that starts with the guest:
    busman imc create lab.hiv --reg settings.reg --service 'setup=cmd.exe /c D:\\setup.cmd'
    busman run --firmware MSVM.fd --disk win.vhdx --imc lab.hiv

A service runs as the system. Of the settings, keys below HKEY_LOCAL_MACHINE\\SYSTEM can be set, and nothing removed.";

/// Runs virtual machines on KVM that look like Hyper-V generation 2 machines
#[derive(Debug, Parser)]
#[command(name = "busman", version, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a virtual machine until its guest powers off
    #[command(after_help = RUN_EXAMPLES)]
    Run(Box<Run>),
    /// Ask a running machine, which was started with --api-socket
    #[command(after_help = CTL_EXAMPLES)]
    Ctl(Ctl),
    /// Ask the guest of a running machine, which was started with --api-socket
    #[command(after_help = GUEST_EXAMPLES)]
    Guest(Guest),
    /// Write what a running machine's guest shows to a PNG file
    #[command(after_help = SCREENSHOT_EXAMPLES)]
    Screenshot(Screenshot),
    /// Make, describe, convert and check disk images
    #[command(after_help = IMAGE_EXAMPLES)]
    Image(Image),
    /// List, show, set and delete the variables of a machine's firmware, while it is off
    #[command(after_help = NVRAM_EXAMPLES)]
    Nvram(Nvram),
    /// Make initial configurations for Windows guests
    #[command(after_help = IMC_EXAMPLES)]
    Imc(Imc),
    /// Print completions for a shell, for instance: source <(busman completions bash)
    Completions {
        /// Your shell
        shell: Shell,
    },
}

/// Arguments of `busman run`.
#[derive(clap::Args, Debug)]
pub struct Run {
    /// TOML file with these options, names as here: kernel = "vmlinuz"
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
    /// The options themselves.
    #[command(flatten)]
    pub options: Options,
}

impl Run {
    /// Merges file and command line and checks the result.
    ///
    /// # Errors
    /// A sentence for the user; see [`ConfigError`].
    pub fn into_config(self) -> Result<Config, ConfigError> {
        let file = match &self.config {
            Some(path) => Options::from_file(path)?,
            None => Options::default(),
        };
        self.options.or(file).check()
    }
}

/// Writes a completion script.
pub fn completions(shell: Shell, out: &mut dyn Write) {
    clap_complete::generate(shell, &mut Cli::command(), "busman", out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::uefi::Console;
    use crate::config::GenerationChoice;
    use crate::size::{FileSize, MemorySize};
    use clap::error::ErrorKind;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    fn options(line: &str) -> Options {
        match parse(line).unwrap().command {
            Command::Run(run) => run.options,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_are_understood() {
        let options = options(
            "busman run --kernel k --initrd i --cmdline -quiet --firmware f --firmware-console screen \
             --no-front-page --watchdog --uuid 00112233-4455-6677-8899-AABBCCDDEEFF --smbios serial=1 --com2 c --cpus 4 --memory 512M --hyperv -ipi,+reset \
             --devices shutdown,heartbeat --display 800x600 --loopback --disk a.img,lun=1 --dvd b.iso --once --report r --api-socket s --vnc unix:v --trace t \
             --trace-packets all --trace-limit 1G --nvram n --imc i --generation-id new --tpm unix:t",
        );
        let wanted = Options {
            kernel: Some("k".into()),
            initrd: Some("i".into()),
            cmdline: Some("-quiet".into()),
            firmware: Some("f".into()),
            firmware_console: Some(Console::Screen),
            no_front_page: true,
            watchdog: true,
            uuid: "00112233-4455-6677-8899-aabbccddeeff".parse().ok(),
            smbios: "serial=1".parse().ok(),
            com2: Some("c".into()),
            cpus: Some(4),
            memory: Some(MemorySize(512 << 20)),
            hyperv: Some("-ipi,+reset".into()),
            devices: Some(vec!["shutdown".into(), "heartbeat".into()]),
            display: Some("800x600".parse().unwrap()),
            loopback: true,
            disks: vec!["a.img,lun=1".parse().unwrap()],
            dvds: vec!["b.iso".parse().unwrap()],
            once: true,
            report: Some("r".into()),
            api_socket: Some("s".into()),
            vnc: Some("unix:v".parse().unwrap()),
            trace: Some("t".into()),
            trace_packets: Some(vec!["all".into()]),
            trace_limit: Some(FileSize(1 << 30)),
            nvram: Some("n".into()),
            imc: Some("i".into()),
            generation_id: Some(GenerationChoice::New),
            tpm: Some("unix:t".parse().unwrap()),
        };
        assert_eq!(options, wanted);
    }

    #[test]
    fn a_wrong_size_is_a_usage_error_with_the_reason() {
        let error = parse("busman run --memory 12").unwrap_err();
        assert_eq!((error.kind(), error.exit_code()), (ErrorKind::ValueValidation, 2));
        assert!(error.to_string().contains("12 has no unit; write 12M or 12G"), "{error}");
    }

    #[test]
    fn completions_know_the_options() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            completions(shell, &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(script.contains("hyperv") && script.contains("memory"), "{shell}");
        }
    }
}
