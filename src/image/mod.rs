//! `busman image`: makes, describes, converts and checks disk images.
//!
//! The formats and all work on files are the `devices` crate's; here are the words on the command line and the words
//! that come out. Names out of images are printed without what a terminal would take for a command.

mod progress;
mod show;

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use devices::disk::{
    ConvertError, CreateError, CreateOptions, Format, OpenError, OpenOptions, ParentRules, convert,
};
use thiserror::Error;

use self::progress::Progress;
use self::show::{Checked, Created, Info};
use crate::size::{BlockSize, DiskSize};

/// Arguments of `busman image`.
#[derive(Args, Debug)]
pub struct Image {
    /// Print the result in JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
enum Command {
    /// Make a new, empty disk
    Create(Create),
    /// Say what an image is: format, size, parent, what it takes on the host
    Info(Existing),
    /// Make a new image with the contents of another, for instance to change its format
    Convert(Convert),
    /// Look for damage, without repairing any; the exit code is 0 if there is none, 1 otherwise
    Check(Existing),
}

#[derive(Args, Clone, Debug, PartialEq, Eq)]
struct Create {
    /// The new file; its extension tells its format: .vhdx, .vhd, .qcow2, or .img and .raw for raw
    file: PathBuf,
    /// Size of the disk, for instance 64G; not with --parent, whose size it has
    #[arg(long, value_name = "SIZE", required_unless_present = "parent", conflicts_with = "parent")]
    size: Option<DiskSize>,
    /// Store only what differs from this image, which must not change any more (VHDX)
    #[arg(long, value_name = "FILE", conflicts_with = "fixed")]
    parent: Option<PathBuf>,
    /// A directory in which the parent's own parents may be, besides its own; may be given several times
    #[arg(long, value_name = "DIRECTORY")]
    parents: Vec<PathBuf>,
    #[command(flatten)]
    target: Target,
}

/// What is said of a new image.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
struct Target {
    /// Format of the new file: vhdx, vhd, qcow2 or raw [default: what its name says]
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// Take all space at once, instead of when it is written to
    #[arg(long)]
    fixed: bool,
    /// Space that a disk takes at once, for instance 2M [default: what is usual for the format]
    #[arg(long, value_name = "SIZE", conflicts_with = "fixed")]
    block_size: Option<BlockSize>,
    /// Replace the file if it exists; a convert also writes to a block device then
    #[arg(long)]
    force: bool,
}

#[derive(Args, Clone, Debug, PartialEq, Eq)]
struct Existing {
    /// The image
    file: PathBuf,
    /// Its format: vhdx, vhd, qcow2, raw or iso [default: what its name says]
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// A directory in which its parents may be, besides its own; may be given several times
    #[arg(long, value_name = "DIRECTORY")]
    parents: Vec<PathBuf>,
}

#[derive(Args, Clone, Debug, PartialEq, Eq)]
struct Convert {
    /// The image to read
    source: PathBuf,
    /// The file to make; its extension tells its format: .vhdx, .vhd, .qcow2, or .img and .raw for raw
    target_file: PathBuf,
    /// Format of the image to read: vhdx, vhd, qcow2, raw or iso [default: what its name says]
    #[arg(long, value_name = "FORMAT")]
    from: Option<Format>,
    /// A directory in which the source's parents may be, besides its own; may be given several times
    #[arg(long, value_name = "DIRECTORY")]
    parents: Vec<PathBuf>,
    #[command(flatten)]
    target: Target,
}

/// Why an image was not made, or not understood.
#[derive(Debug, Error)]
pub enum ImageError {
    /// An existing image.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A new one.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// Between two.
    #[error(transparent)]
    Convert(#[from] ConvertError),
    /// Standard output.
    #[error("The terminal fails")]
    Output(#[from] io::Error),
}

impl Image {
    /// Does it and prints what came out. `false`: an image is damaged.
    ///
    /// # Errors
    /// A sentence for the user, which names the file.
    pub fn execute(&self) -> Result<bool, ImageError> {
        match self.run(&mut io::stdout()) {
            // Who reads no further has seen enough.
            Err(ImageError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(true),
            done => done,
        }
    }

    fn run(&self, out: &mut dyn Write) -> Result<bool, ImageError> {
        match &self.command {
            Command::Create(create) => {
                let options = create.options();
                options.create()?;
                let made = OpenOptions {
                    format: options.format,
                    parents: create.rules(),
                    ..OpenOptions::new(&options.path)
                };
                show::print(out, self.json, &Created::new(&made.info()?, None))?;
            }
            Command::Info(existing) => show::print(out, self.json, &Info::new(&existing.options().info()?))?,
            Command::Convert(command) => {
                let mut progress = Progress::new(io::stderr().is_terminal());
                let target = command.target.options(&command.target_file, 0);
                let done = convert(&command.source(), &target, |done, total| {
                    progress.show(&mut io::stderr(), done, total);
                });
                progress.end(&mut io::stderr());
                let done = done?;
                let made = OpenOptions { format: Some(done.format), ..OpenOptions::new(&target.path) };
                show::print(out, self.json, &Created::new(&made.info()?, Some(done.written)))?;
            }
            Command::Check(existing) => {
                let options = existing.options();
                let checked = Checked { file: options.path.clone(), problems: options.check()? };
                show::print(out, self.json, &checked)?;
                return Ok(checked.problems.is_empty());
            }
        }
        Ok(true)
    }
}

impl Create {
    fn options(&self) -> CreateOptions {
        let parent = self.parent.as_ref();
        CreateOptions {
            parent: parent.map(|path| OpenOptions { parents: self.rules(), ..OpenOptions::new(path) }),
            ..self.target.options(&self.file, self.size.map_or(0, |DiskSize(size)| size))
        }
    }

    /// Who names a parent means the file that is there.
    fn rules(&self) -> ParentRules {
        let mut directories = self.parents.clone();
        if let Some(directory) =
            self.parent.as_ref().and_then(|path| path.canonicalize().ok()?.parent().map(Path::to_owned))
        {
            directories.push(directory);
        }
        ParentRules { directories }
    }
}

impl Target {
    fn options(&self, path: &Path, size: u64) -> CreateOptions {
        CreateOptions {
            format: self.format,
            fixed: self.fixed,
            block_size: self.block_size.map(|BlockSize(size)| size),
            replace: self.force,
            ..CreateOptions::new(path, size)
        }
    }
}

impl Existing {
    fn options(&self) -> OpenOptions {
        OpenOptions {
            path: self.file.clone(),
            format: self.format,
            read_only: true,
            parents: ParentRules { directories: self.parents.clone() },
        }
    }
}

impl Convert {
    fn source(&self) -> OpenOptions {
        OpenOptions {
            path: self.source.clone(),
            format: self.from,
            read_only: true,
            parents: ParentRules { directories: self.parents.clone() },
        }
    }
}

#[cfg(test)]
mod tests;
