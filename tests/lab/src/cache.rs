//! The cache of everything fetched or made once: packages, kernels, images.
//!
//! An entry's name holds its version or a hash of its content, so an entry is never changed: it is there and
//! right, or not there. It is made under another name first.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// The folder of the cache.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// Opens `$XDG_CACHE_HOME/busman-lab`, by default `~/.cache/busman-lab`.
    pub fn open() -> Result<Self> {
        let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
        let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
        let root = base.context("neither XDG_CACHE_HOME nor HOME is set")?.join("busman-lab");
        fs::create_dir_all(&root).with_context(|| format!("create {}", root.display()))?;
        Ok(Self { root })
    }

    /// The entry `name`, made by `make` at the path that it is given if it is not there yet.
    pub fn entry(&self, name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let path = self.root.join(name);
        if path.exists() {
            return Ok(path);
        }
        let unfinished = self.root.join(format!("{name}.{}.part", std::process::id()));
        if let Some(parent) = unfinished.parent() {
            fs::create_dir_all(parent)?;
        }
        make(&unfinished).with_context(|| format!("make {name}"))?;
        if let Err(error) = fs::rename(&unfinished, &path) {
            // Another lab made the same entry meanwhile.
            ensure!(path.exists(), "rename to {}: {error}", path.display());
        }
        Ok(path)
    }

    /// The entry with exactly this content; `name` is completed by a hash.
    pub fn content(&self, name: &str, content: &[u8]) -> Result<PathBuf> {
        self.entry(&keyed(name, content), |path| Ok(fs::write(path, content)?))
    }
}

/// A name completed by a hash of what its entry is made from.
pub fn keyed(name: &str, content: &(impl Hash + ?Sized)) -> String {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    format!("{name}-{:016x}", hasher.finish())
}
