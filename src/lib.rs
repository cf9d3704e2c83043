//! Busman, a virtual machine monitor for KVM whose machine is a Hyper-V generation 2 machine.
//!
//! What the guest sees is put together in [`machine`]; the devices themselves are in the `devices` crate, which
//! knows no hypervisor. From the command line to a running guest: [`cli`] → [`config`] → [`vmm`] → [`machine`] →
//! [`hv`] and [`boot`].
//!
//! | module | what it holds |
//! |---|---|
//! | [`cli`] | the command line |
//! | [`config`] | what a machine should be: options from the command line and a file, merged and checked |
//! | [`vmm`] | runs a machine to its end: the control loop |
//! | [`control`] | what a user can ask of a running machine, and the way there |
//! | [`api`] | the control socket: HTTP for commands |
//! | [`ctl`] | `busman ctl`, its client |
//! | [`image`] | `busman image`: disk images |
//! | [`imc`] | `busman imc`: initial machine configurations for Windows guests |
//! | [`nvram`] | `busman nvram`: variables of a machine's firmware |
//! | [`disks`] | the disks of a machine |
//! | [`size`] | sizes as users write them |
//! | [`events`] | what the machine tells the control loop |
//! | [`report`] | what a run was like, as data |
//! | [`contacts`] | who made contact with the bus, for that |
//! | [`machine`] | creates and wires everything that the guest sees |
//! | [`layout`] | the machine's map: memory, ports, interrupt lines |
//! | [`memory`] | guest RAM |
//! | [`hv`] | Hyper-V on KVM: partition, virtual processors, SynIC |
//! | [`boot`] | kernel, boot structures and ACPI tables in guest RAM |
//! | [`host`] | the host's terminal and signals |
//! | [`tpm`] | the machine's TPM: swtpm |
//! | [`vnc`] | the VNC server: looking at the guest and typing to it |

pub mod api;
pub mod boot;
pub mod cli;
pub mod config;
pub mod contacts;
pub mod control;
pub mod ctl;
pub mod disks;
pub mod display;
pub mod events;
pub mod host;
pub mod hv;
pub mod image;
pub mod imc;
pub mod layout;
pub mod machine;
pub mod memory;
pub mod nvram;
pub mod report;
pub mod size;
pub mod tpm;
pub mod vmm;
pub mod vnc;
