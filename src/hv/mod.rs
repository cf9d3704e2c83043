//! Hyper-V on KVM: the partition, its virtual processors and its synthetic interrupt controllers.
//!
//! The only room that talks to /dev/kvm. [`machine`](crate::machine) builds a [`kvm::Partition`] here and gives
//! its [`synic::KvmSynic`] to the bus; [`vcpu`] runs one thread for each virtual processor and hands what exits
//! to [`exits`].

pub mod clock;
pub mod counters;
pub mod cpuid;
pub mod crash;
pub mod exits;
pub mod guest_os;
pub mod hypercall;
pub mod ioctl;
pub mod kick;
pub mod kvm;
mod messages;
pub mod pause;
pub mod synic;
pub mod vcpu;
pub mod video;
