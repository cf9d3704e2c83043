//! The generation of the machine, as users write it.

use std::str::FromStr;

use devices::guid::{Guid, GuidError};
use serde::{Deserialize, Serializer};

use super::{Boot, ConfigError};

/// The word for a generation that was never there before.
const NEW: &str = "new";

/// Which generation the machine is of.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub enum GenerationChoice {
    /// A new one.
    New,
    /// This one.
    Id(Guid),
}

impl FromStr for GenerationChoice {
    type Err = GuidError;

    fn from_str(text: &str) -> Result<Self, GuidError> {
        if text == NEW { Ok(GenerationChoice::New) } else { text.parse().map(GenerationChoice::Id) }
    }
}

impl TryFrom<String> for GenerationChoice {
    type Error = GuidError;

    fn try_from(text: String) -> Result<Self, GuidError> {
        text.parse()
    }
}

/// What a kernel's machine begins with, since nothing keeps it; firmware's, only if it is not what its file says.
pub(super) fn check(choice: Option<GenerationChoice>, boot: &Boot) -> Result<Option<Guid>, ConfigError> {
    let new = || Guid::random().map_err(ConfigError::NoGenerationId);
    match (choice, boot) {
        (Some(GenerationChoice::Id(id)), _) => Ok(Some(id)),
        (Some(GenerationChoice::New), _) | (None, Boot::Kernel(_)) => new().map(Some),
        (None, Boot::Firmware(_)) => Ok(None),
    }
}

pub(super) fn as_text<S: Serializer>(id: &Option<Guid>, serializer: S) -> Result<S::Ok, S::Error> {
    match id {
        Some(id) => serializer.collect_str(id),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Options;

    const ID: &str = "00112233-4455-6677-8899-aabbccddeeff";

    #[test]
    fn a_machine_keeps_the_generation_that_it_is_given_and_a_kernels_has_one_anyway() {
        let file = std::env::current_exe().ok();
        let kernel = Options { kernel: file.clone(), ..Options::default() };
        let firmware = Options { firmware: file, ..Options::default() };
        let check = |options: &Options, choice: Option<&str>| {
            let generation_id = choice.map(|choice| choice.parse().unwrap());
            let config = Options { generation_id, ..options.clone() }.check().unwrap();
            serde_json::to_value(config).unwrap()["generation_id"].as_str().map(str::to_owned)
        };
        assert_eq!(check(&firmware, None), None, "its file's");
        for options in [&kernel, &firmware] {
            assert_eq!(check(options, Some(ID)).unwrap(), ID);
            assert_ne!(check(options, Some("new")).unwrap(), check(options, Some("new")).unwrap());
        }
        assert_ne!(check(&kernel, None).unwrap(), check(&kernel, None).unwrap());
    }
}
