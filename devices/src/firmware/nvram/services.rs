//! EFI's variable services (UEFI 2.10, 8.2): who may read and write which variable, when.
//!
//! Only variables that last come here; the firmware keeps the others itself. What the host tells the guest in
//! variables (SecureBoot, SetupMode, OsLoaderIndications) is beside the store and made anew at every power-on.
//! Nothing in here knows a guest's memory, a file or a clock, so that a model and bytes can test it.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;

use super::auth::{self, Approved};
use super::protocol::{Attributes, vendor};
use super::store::{STORE_MAX, Store, after};
use super::variable::{DATA_MAX, NO_TIME, Variable, VariableId};
use crate::firmware::protocol::EfiStatus;
use crate::guest_debug;
use crate::guid::Guid;

/// Where a store goes before a change of it counts.
pub trait Keep: Debug + Send {
    /// Keeps it; when this returns, nothing short of a broken disk may lose it.
    ///
    /// # Errors
    /// What the host says; what was kept before is kept still.
    fn keep(&mut self, store: &Store) -> io::Result<()>;
}

/// Keeps nothing: variables live as long as the machine's process.
#[derive(Debug)]
pub struct Nowhere;

impl Keep for Nowhere {
    fn keep(&mut self, _store: &Store) -> io::Result<()> {
        Ok(())
    }
}

/// Room for variables of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes for all of them.
    pub total: usize,
    /// Bytes that are left.
    pub free: usize,
    /// Bytes of the largest one.
    pub largest: usize,
}

/// A variable that the host shows.
#[derive(Clone, Debug)]
struct Shown {
    variable: Variable,
    writable: bool,
}

/// The variables of a machine.
#[derive(Debug)]
pub struct Variables {
    store: Store,
    keep: Box<dyn Keep>,
    shown: BTreeMap<VariableId, Shown>,
    runtime: bool,
}

/// What a write does.
enum Change {
    Set,
    Append,
    Delete,
}

impl Variables {
    /// The variables of a store, at power-on.
    #[must_use]
    pub fn new(store: Store, keep: Box<dyn Keep>) -> Self {
        let mut variables = Variables { store, keep, shown: BTreeMap::new(), runtime: false };
        variables.power_on();
        variables
    }

    /// All that last.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The machine is of another generation from now on.
    ///
    /// # Errors
    /// When that cannot be kept; nothing has changed then.
    pub fn set_generation(&mut self, id: Guid) -> io::Result<()> {
        let old = std::mem::replace(&mut self.store.generation, id);
        if old == id {
            return Ok(());
        }
        self.keep.keep(&self.store).inspect_err(|_| self.store.generation = old)
    }

    /// The machine is reset: boot services are there again, and the host's variables are as they were.
    ///
    /// Secure Boot is on when there is a platform key.
    pub fn power_on(&mut self) {
        self.runtime = false;
        self.shown.clear();
        let secure = u8::from(!self.setup_mode());
        let volatile = Attributes::BOOT_SERVICE | Attributes::RUNTIME;
        self.show(vendor::GLOBAL, "SecureBoot", volatile, &[secure], false);
        self.show(vendor::SECURE_BOOT_ENABLE, "SecureBootEnable", Attributes::LASTING, &[secure], false);
        let boot = Attributes::BOOT_SERVICE;
        self.show(vendor::HYPERV, "OsLoaderIndications", boot, &[0; 4], true);
        self.show(vendor::HYPERV, "OsLoaderIndicationsSupported", boot, &[0; 4], false);
        self.show_setup_mode();
        if secure == 1
            && let Some(db) = VariableId::new(vendor::IMAGE_SECURITY, "db")
            && let Some(db) = self.store.get(&db)
        {
            let data = db.data.clone();
            self.show(vendor::GLOBAL, "dbDefault", volatile, &data, false);
        }
    }

    fn show(&mut self, vendor: Guid, name: &str, attributes: Attributes, data: &[u8], writable: bool) {
        if let Some(id) = VariableId::new(vendor, name) {
            let variable = Variable::new(attributes, data.to_vec());
            self.shown.insert(id, Shown { variable, writable });
        }
    }

    fn show_setup_mode(&mut self) {
        let mode = u8::from(self.setup_mode());
        self.show(
            vendor::GLOBAL,
            "SetupMode",
            Attributes::BOOT_SERVICE | Attributes::RUNTIME,
            &[mode],
            false,
        );
    }

    /// Without a platform key nobody owns the machine, and its keys can be set without a signature.
    #[must_use]
    pub fn setup_mode(&self) -> bool {
        VariableId::new(vendor::GLOBAL, "PK").is_none_or(|pk| self.store.get(&pk).is_none())
    }

    /// ExitBootServices was called: what is not for the runtime is hidden from now on.
    pub fn exit_boot_services(&mut self) {
        self.runtime = true;
    }

    /// GetVariable.
    ///
    /// # Errors
    /// NOT_FOUND.
    pub fn get(&self, id: &VariableId) -> Result<&Variable, EfiStatus> {
        let variable = self.find(id).ok_or(EfiStatus::NotFound)?;
        if self.is_visible(variable) { Ok(variable) } else { Err(EfiStatus::NotFound) }
    }

    fn find(&self, id: &VariableId) -> Option<&Variable> {
        self.shown.get(id).map(|shown| &shown.variable).or_else(|| self.store.get(id))
    }

    fn is_visible(&self, variable: &Variable) -> bool {
        !self.runtime || variable.attributes.contains(Attributes::RUNTIME)
    }

    /// GetNextVariableName; the first without a name.
    ///
    /// # Errors
    /// NOT_FOUND after the last, INVALID_PARAMETER for a name that is not there.
    pub fn next(&self, id: Option<&VariableId>) -> Result<&VariableId, EfiStatus> {
        if let Some(id) = id {
            self.get(id).map_err(|_| EfiStatus::InvalidParameter)?;
        }
        let stored = self.store.after(id).find(|(_, variable)| self.is_visible(variable));
        let shown = after(&self.shown, id).find(|(_, shown)| self.is_visible(&shown.variable));
        let names = [stored.map(|(name, _)| name), shown.map(|(name, _)| name)];
        names.into_iter().flatten().min().ok_or(EfiStatus::NotFound)
    }

    /// QueryVariableInfo.
    ///
    /// # Errors
    /// INVALID_PARAMETER and UNSUPPORTED for attributes that no variable here has.
    pub fn room(&self, attributes: u32) -> Result<Room, EfiStatus> {
        let attributes = check_attributes(attributes)?;
        if !attributes.intersects(Attributes::ACCESS) {
            return Err(EfiStatus::InvalidParameter);
        }
        if self.runtime && !attributes.contains(Attributes::RUNTIME) {
            return Err(EfiStatus::InvalidParameter);
        }
        if !attributes.contains(Attributes::NON_VOLATILE) {
            return Err(EfiStatus::Unsupported);
        }
        Ok(Room { total: STORE_MAX, free: self.store.free(), largest: DATA_MAX })
    }

    /// SetVariable: sets, appends to or deletes a variable.
    ///
    /// # Errors
    /// The specification's status; nothing has changed then.
    pub fn set(&mut self, id: &VariableId, attributes: u32, data: &[u8]) -> Result<(), EfiStatus> {
        let attributes = check_attributes(attributes)?;
        if data.len() > DATA_MAX {
            return Err(EfiStatus::InvalidParameter);
        }
        let lasting = attributes.contains(Attributes::NON_VOLATILE | Attributes::RUNTIME);
        if self.runtime && attributes.intersects(Attributes::ACCESS) && !lasting {
            return Err(EfiStatus::InvalidParameter);
        }
        if let Some(shown) = self.shown.get(id) {
            return if shown.writable {
                self.set_shown(id, attributes, data)
            } else {
                Err(EfiStatus::WriteProtected)
            };
        }
        let Approved { data, time, owner } =
            auth::approve(&self.store, self.setup_mode(), id, attributes, data)?;
        let change = change(attributes, data);
        let old = self.store.get(id);
        let stored = attributes - Attributes::APPEND;
        if let Some(old) = old {
            self.check_existing(old, stored, &change)?;
        }
        let variable = match (change, old) {
            (Change::Delete, None) => return Err(EfiStatus::NotFound),
            (Change::Delete, Some(_)) => None,
            (Change::Append, _) if data.is_empty() => return Ok(()),
            (Change::Append, Some(old)) => Some(auth::append(id, old, data, time)?),
            (Change::Append | Change::Set, _) => {
                if !stored.contains(Attributes::NON_VOLATILE) {
                    return Err(EfiStatus::Unsupported);
                }
                Some(Variable { attributes: stored, time, owner, data: data.to_vec() })
            }
        };
        self.change(id, variable)
    }

    /// What holds for a variable that is there already.
    fn check_existing(&self, old: &Variable, stored: Attributes, change: &Change) -> Result<(), EfiStatus> {
        let authenticated = old.attributes.contains(Attributes::TIME_AUTHENTICATED);
        // A write without access attributes deletes whatever the variable's own are, unless it needs a signature.
        let any =
            !stored.intersects(Attributes::ACCESS) && matches!(change, Change::Delete) && !authenticated;
        if !any && stored != old.attributes {
            return Err(EfiStatus::InvalidParameter);
        }
        if self.is_visible(old) {
            return Ok(());
        }
        // That it exists may be told: the firmware's own services do so too.
        Err(if matches!(change, Change::Set) { EfiStatus::WriteProtected } else { EfiStatus::NotFound })
    }

    /// The guest sets what the host shows it; that lasts until the next power-on.
    fn set_shown(&mut self, id: &VariableId, attributes: Attributes, data: &[u8]) -> Result<(), EfiStatus> {
        let shown = self.shown.get_mut(id).ok_or(EfiStatus::NotFound)?;
        if self.runtime {
            return Err(EfiStatus::WriteProtected);
        }
        if shown.variable.attributes != attributes {
            return Err(EfiStatus::InvalidParameter);
        }
        shown.variable.data = data.to_vec();
        Ok(())
    }

    /// Attributes that a variable has unless somebody says otherwise.
    #[must_use]
    pub fn usual_attributes(id: &VariableId) -> Attributes {
        if auth::is_policy(id) { Attributes::POLICY } else { Attributes::LASTING }
    }

    /// The machine's owner sets a variable or deletes it, without a signature. When and by whom it was signed stays.
    ///
    /// # Errors
    /// WRITE_PROTECTED for what the host shows, INVALID_PARAMETER and UNSUPPORTED for attributes and data that no
    /// variable can have, and those of [`Variables::change`].
    pub fn set_as_owner(
        &mut self,
        id: &VariableId,
        attributes: Attributes,
        data: Option<&[u8]>,
    ) -> Result<(), EfiStatus> {
        if self.shown.contains_key(id) {
            return Err(EfiStatus::WriteProtected);
        }
        let Some(data) = data else { return self.change(id, None) };
        check_attributes(attributes.bits())?;
        let wrong = auth::is_policy(id) && attributes != Attributes::POLICY;
        if wrong || !attributes.intersects(Attributes::ACCESS) || data.is_empty() {
            return Err(EfiStatus::InvalidParameter);
        }
        if !attributes.contains(Attributes::NON_VOLATILE) || attributes.contains(Attributes::APPEND) {
            return Err(EfiStatus::Unsupported);
        }
        auth::check_data(id, attributes, data)?;
        let old = self.store.get(id).filter(|old| old.attributes == attributes);
        let (time, owner) = old.map_or((NO_TIME, [0; 32]), |old| (old.time, old.owner));
        self.change(id, Some(Variable { attributes, time, owner, data: data.to_vec() }))
    }

    /// The host changes a variable, with no rule but the limits.
    ///
    /// # Errors
    /// OUT_OF_RESOURCES when it does not fit, DEVICE_ERROR when it cannot be kept; nothing has changed then.
    pub fn change(&mut self, id: &VariableId, variable: Option<Variable>) -> Result<(), EfiStatus> {
        if variable.as_ref().is_some_and(|variable| variable.data.len() > DATA_MAX) {
            return Err(EfiStatus::OutOfResources);
        }
        if self.store.get(id) == variable.as_ref() {
            return Ok(());
        }
        let old = self.store.replace(id, variable).map_err(|_| EfiStatus::OutOfResources)?;
        if let Err(error) = self.keep.keep(&self.store) {
            crate::guest_warn!("The variable {id} is not changed: the store cannot be written: {error}");
            // What was there before fits.
            let _ = self.store.replace(id, old);
            return Err(EfiStatus::DeviceError);
        }
        guest_debug!("The variable {id} has changed");
        self.show_setup_mode();
        Ok(())
    }
}

/// What is wrong with attributes, whatever the variable.
fn check_attributes(bits: u32) -> Result<Attributes, EfiStatus> {
    let attributes = Attributes::from_bits(bits).ok_or(EfiStatus::InvalidParameter)?;
    let both = Attributes::TIME_AUTHENTICATED | Attributes::ENHANCED_AUTHENTICATED;
    let lonely = attributes.contains(Attributes::RUNTIME) && !attributes.contains(Attributes::BOOT_SERVICE);
    if lonely || attributes.contains(both) {
        return Err(EfiStatus::InvalidParameter);
    }
    let absent =
        Attributes::HARDWARE_ERROR | Attributes::COUNT_AUTHENTICATED | Attributes::ENHANCED_AUTHENTICATED;
    if attributes.intersects(absent) { Err(EfiStatus::Unsupported) } else { Ok(attributes) }
}

fn change(attributes: Attributes, data: &[u8]) -> Change {
    if !attributes.intersects(Attributes::ACCESS) {
        // An append as well: what nobody may read must not come to be, least of all unsigned.
        Change::Delete
    } else if attributes.contains(Attributes::APPEND) {
        Change::Append
    } else if data.is_empty() {
        Change::Delete
    } else {
        Change::Set
    }
}

/// What a write without a signature brings.
pub(super) fn unsigned(data: &[u8]) -> Approved<'_> {
    Approved { data, time: NO_TIME, owner: [0; 32] }
}
