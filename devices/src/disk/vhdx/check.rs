//! What is wrong with a file: all of it, where opening stops at the first thing.

use std::fs::File;

use super::bat::Bat;
use super::error::VhdxError;
use super::header::{Headers, read_copy, read_creator};
use super::log;
use super::medium::{Medium, Replayed};
use super::metadata::Metadata;
use super::open::fixed_places;
use super::region::{self, Regions, Taken};
use crate::guid::Guid;

/// Most things that are listed.
const MOST: usize = 1000;

/// Lists what is wrong with a file, a sentence each; empty if nothing is. The file is not changed, and its parent
/// not looked at.
///
/// # Errors
/// [`VhdxError::NotVhdx`] and [`VhdxError::Host`].
pub fn check(file: &File) -> Result<Vec<String>, VhdxError> {
    check_medium(Box::new(file.try_clone()?))
}

/// As [`check`], of what is not necessarily a file.
pub(super) fn check_medium(medium: Box<dyn Medium>) -> Result<Vec<String>, VhdxError> {
    let mut problems = Vec::new();
    match walk(medium, &mut problems) {
        Ok(()) => {}
        Err(error @ (VhdxError::NotVhdx | VhdxError::Host(_))) => return Err(error),
        Err(VhdxError::Damaged(what)) => problems.push(what),
        Err(error) => problems.push(error.to_string()),
    }
    problems.dedup();
    Ok(problems)
}

fn walk(medium: Box<dyn Medium>, problems: &mut Vec<String>) -> Result<(), VhdxError> {
    read_creator(&*medium)?;
    let headers = Headers::read(&*medium)?;
    for copy in 0..2 {
        if let Err(VhdxError::Damaged(what)) = read_copy(&*medium, copy) {
            problems.push(what);
        }
    }
    let medium = if headers.header.log_guid == Guid::ZERO {
        medium
    } else {
        let (steps, len) = log::read(&*medium, &headers)?;
        Box::new(Replayed::new(medium, steps, len))
    };
    let regions = Regions::read(&*medium)?;
    for copy in 0..2 {
        if let Err(VhdxError::Damaged(what)) = region::read_copy(&*medium, copy) {
            problems.push(what);
        }
    }
    let fixed = fixed_places(&headers, &regions)?;
    let metadata = Metadata::read(&*medium, regions.metadata)?;
    let bat = Bat::read(&*medium, metadata.layout(), regions.bat)?;
    let mut places = bat.check(medium.len()?, |what| {
        if problems.len() < MOST {
            problems.push(what);
        }
    });
    places.extend(fixed);
    if let Err(span) = Taken::new(places) {
        problems.push(format!("what is at {} is there twice", span.start));
    }
    Ok(())
}
