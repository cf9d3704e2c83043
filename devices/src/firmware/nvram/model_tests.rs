//! Random operations against a model of EFI's rules that is written without the services: a list, and the rules as
//! sentences. What lasts also goes through a real file.

use super::NvramFile;
use super::services::Variables;
use super::variable::{DATA_MAX, VariableId};
use crate::firmware::protocol::EfiStatus;
use crate::guid::Guid;
use proptest::prelude::*;
use vmm_sys_util::tempdir::TempDir;

#[derive(Clone, Debug)]
enum Operation {
    Set { name: u8, attributes: u32, data: Vec<u8> },
    Get { name: u8 },
    Walk,
    ExitBootServices,
    PowerOn,
    Reopen,
}

/// A variable, the simple way.
#[derive(Clone, Debug, PartialEq)]
struct Modelled {
    name: String,
    attributes: u32,
    data: Vec<u8>,
}

#[derive(Debug, Default)]
struct Model {
    variables: Vec<Modelled>,
    runtime: bool,
}

impl Model {
    fn visible(&self, variable: &Modelled) -> bool {
        !self.runtime || variable.attributes & 4 != 0
    }

    fn get(&self, name: &str) -> Option<&Modelled> {
        self.variables.iter().find(|variable| variable.name == name && self.visible(variable))
    }

    /// The rules in the order in which a reader of the specification meets them.
    fn set(&mut self, name: &str, attributes: u32, data: &[u8]) -> Result<(), EfiStatus> {
        let (boot, runtime, lasting) = (attributes & 2 != 0, attributes & 4 != 0, attributes & 1 != 0);
        let append = attributes & 0x40 != 0;
        if runtime && !boot || attributes & 0xa0 == 0xa0 || attributes > 0xff {
            return Err(EfiStatus::InvalidParameter);
        }
        if attributes & 0x98 != 0 {
            return Err(EfiStatus::Unsupported);
        }
        if data.len() > DATA_MAX || self.runtime && boot && !(runtime && lasting) {
            return Err(EfiStatus::InvalidParameter);
        }
        let at = self.variables.iter().position(|variable| variable.name == name);
        let deletes = !boot && !runtime || !append && data.is_empty();
        if let Some(at) = at {
            let old = &self.variables[at];
            let needs_no_match = deletes && !boot && !runtime;
            if !needs_no_match && old.attributes != attributes & !0x40 {
                return Err(EfiStatus::InvalidParameter);
            }
            if !self.visible(old) {
                let sets = !deletes && !append;
                return Err(if sets { EfiStatus::WriteProtected } else { EfiStatus::NotFound });
            }
        }
        match at {
            None if deletes => return Err(EfiStatus::NotFound),
            Some(at) if deletes => {
                self.variables.remove(at);
            }
            _ if append && data.is_empty() => {}
            Some(at) if append => {
                let old = &mut self.variables[at].data;
                if old.len() + data.len() > DATA_MAX {
                    return Err(EfiStatus::OutOfResources);
                }
                old.extend(data);
            }
            _ if !lasting => return Err(EfiStatus::Unsupported),
            Some(at) => self.variables[at].data = data.to_vec(),
            None => self.variables.push(Modelled {
                name: name.to_owned(),
                attributes: attributes & !0x40,
                data: data.to_vec(),
            }),
        }
        Ok(())
    }
}

const VENDOR: Guid = Guid::from_bytes([0xee; 16]);

fn id(name: u8) -> VariableId {
    VariableId::new(VENDOR, &format!("Name{name}")).unwrap()
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    // Mostly attributes that mean something, and a few that do not.
    let attributes = prop_oneof![
        6 => prop::sample::select(vec![7u32, 3, 0x47, 0x43]),
        2 => 0..8u32,
        1 => (0..0x120u32).prop_filter("signatures have tests of their own", |bits| bits & 0x20 == 0),
    ];
    let len = prop_oneof![8 => 0..40usize, 1 => 16_000..20_000usize, 1 => Just(DATA_MAX + 1)];
    let data = (len, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]);
    let operation = prop_oneof![
        20 => (0..6u8, attributes, data)
            .prop_map(|(name, attributes, data)| Operation::Set { name, attributes, data }),
        8 => (0..6u8).prop_map(|name| Operation::Get { name }),
        2 => Just(Operation::Walk),
        1 => Just(Operation::ExitBootServices),
        1 => Just(Operation::PowerOn),
        1 => Just(Operation::Reopen),
    ];
    prop::collection::vec(operation, 1000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_thousand_random_operations_do_what_the_model_does(operations in operations()) {
        let directory = TempDir::new_with_prefix("/tmp/busman-nvram").unwrap();
        let path = directory.as_path().join("vm.nvram");
        let open = || {
            let (file, store) = NvramFile::open_or_create(&path).unwrap();
            Variables::new(store, Box::new(file))
        };
        let (mut variables, mut model) = (Some(open()), Model::default());
        for operation in operations {
            let now = variables.as_mut().unwrap();
            match operation {
                Operation::Set { name, attributes, data } => {
                    let outcome = now.set(&id(name), attributes, &data);
                    prop_assert_eq!(outcome, model.set(&format!("Name{name}"), attributes, &data));
                }
                Operation::Get { name } => {
                    let found = now.get(&id(name)).ok().map(|found| (found.attributes.bits(), found.data.clone()));
                    let wanted = model.get(&format!("Name{name}")).cloned();
                    prop_assert_eq!(found, wanted.map(|variable| (variable.attributes, variable.data)));
                }
                Operation::Walk => {
                    let all = std::iter::successors(now.next(None).ok(), |id| now.next(Some(id)).ok());
                    let found: Vec<String> =
                        all.filter(|id| id.vendor == VENDOR).map(|id| id.name.to_string()).collect();
                    let seen = model.variables.iter().filter(|variable| model.visible(variable));
                    let mut wanted: Vec<String> = seen.map(|variable| variable.name.clone()).collect();
                    wanted.sort();
                    prop_assert_eq!(found, wanted);
                }
                Operation::ExitBootServices => {
                    now.exit_boot_services();
                    model.runtime = true;
                }
                Operation::PowerOn => {
                    now.power_on();
                    model.runtime = false;
                }
                Operation::Reopen => {
                    drop(variables.take());
                    variables = Some(open());
                    model.runtime = false;
                }
            }
        }
    }
}
