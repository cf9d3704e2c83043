//! EFI variables that last: the rules, the store and its file.
//!
//! [`Variables`] are EFI's variable services, without a guest or a file: names and bytes in, a status out. They keep
//! a [`Store`] in memory and hand it to a [`Keep`] before a change is acknowledged. [`NvramFile`] keeps it on the
//! host.
//!
//! | module | what it holds |
//! |---|---|
//! | [`variable`] | a variable and its name |
//! | [`store`] | all of them, with limits |
//! | [`services`] | what a guest may do with them |
//! | `auth`, `pkcs7`, `signatures` | authenticated writes: what has to be signed, by whom, and whether it is |
//! | [`mod@format`], [`mod@file`] | the store as bytes; the file that has them |
//! | [`protocol`] | EFI's structures and well-known names |

mod auth;
pub mod file;
pub mod format;
mod pkcs7;
pub mod protocol;
pub mod services;
mod signatures;
pub mod store;
pub mod variable;

pub use file::{NvramError, NvramFile};
pub use services::{Keep, Variables};
pub use store::Store;
pub use variable::{Name, Variable, VariableId};

#[cfg(test)]
mod auth_tests;
#[cfg(test)]
mod file_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod services_tests;
