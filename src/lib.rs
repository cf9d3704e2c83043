//! Busman, a virtual machine monitor for KVM whose machine is a Hyper-V generation 2 machine.
//!
//! | module | what it holds |
//! |---|---|
//! | [`cli`] | the command line |
//! | [`config`] | what a machine should be: options from the command line and a file, merged and checked |
//! | [`vmm`] | runs a machine to its end |
//! | [`control`] | what a user can ask of a running machine |
//! | [`layout`] | the machine's map: memory, ports, interrupt lines |
//! | [`memory`] | guest RAM |
//! | [`boot`] | kernel, boot structures and ACPI tables in guest RAM |
//! | [`host`] | the host's terminal and signals |

pub mod boot;
pub mod cli;
pub mod config;
pub mod control;
pub mod host;
pub mod layout;
pub mod memory;
pub mod vmm;
