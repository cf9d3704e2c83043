//! Busman, a virtual machine monitor for KVM whose machine is a Hyper-V generation 2 machine.
//!
//! | module | what it holds |
//! |---|---|
//! | [`layout`] | the machine's map: memory, ports, interrupt lines |
//! | [`memory`] | guest RAM |
//! | [`boot`] | kernel, boot structures and ACPI tables in guest RAM |

pub mod boot;
pub mod layout;
pub mod memory;
