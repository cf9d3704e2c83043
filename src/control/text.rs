//! Data as text for people: one line for each value, a table for each list of records.
//!
//! The terminal shows answers with it, and `busman ctl` what the control socket sends: so both look the same, and
//! a new field needs no code here. Control characters are left out, since parts of the data are a guest's words.

use std::fmt::{self, Write};

use serde::Serialize;
use serde_json::{Map, Value};

/// Writes anything that has a form in JSON.
///
/// # Errors
/// The writer's; data that has no form in JSON is an error, too.
pub fn write(out: &mut dyn Write, data: &impl Serialize) -> fmt::Result {
    write_value(out, &serde_json::to_value(data).map_err(|_| fmt::Error)?)
}

/// Writes a value.
///
/// # Errors
/// The writer's.
pub fn write_value(out: &mut dyn Write, value: &Value) -> fmt::Result {
    match value {
        Value::Array(rows) => write_table(out, rows),
        Value::Object(fields) => {
            let mut lines = Vec::new();
            flatten("", fields, &mut lines);
            let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
            for (name, value) in lines {
                match value {
                    Value::Array(rows) if rows.iter().any(Value::is_object) => {
                        writeln!(out, "{name}")?;
                        write_table(out, rows)?;
                    }
                    other => writeln!(out, "{name:width$}  {}", plain(other))?,
                }
            }
            Ok(())
        }
        other => writeln!(out, "{}", plain(other)),
    }
}

/// The fields of a record and of those in it, by their path.
fn flatten<'a>(path: &str, fields: &'a Map<String, Value>, lines: &mut Vec<(String, &'a Value)>) {
    for (name, value) in fields {
        let name = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match value {
            Value::Object(fields) => flatten(&name, fields, lines),
            other => lines.push((name, other)),
        }
    }
}

/// Records as rows under the names of the first one's fields.
fn write_table(out: &mut dyn Write, rows: &[Value]) -> fmt::Result {
    let mut table: Vec<Vec<String>> = Vec::new();
    for row in rows {
        let mut cells = Vec::new();
        match row {
            Value::Object(fields) => flatten("", fields, &mut cells),
            other => cells.push((String::new(), other)),
        }
        if table.is_empty() {
            table.push(cells.iter().map(|(name, _)| last_word(name).to_owned()).collect());
        }
        table.push(cells.into_iter().map(|(_, value)| plain(value)).collect());
    }
    let columns = table.first().map_or(0, Vec::len);
    let cell = |row: &Vec<String>, i: usize| row.get(i).cloned().unwrap_or_default();
    let widths: Vec<usize> = (0..columns)
        .map(|i| table.iter().map(|row| cell(row, i).chars().count()).max().unwrap_or(0))
        .collect();
    for row in &table {
        let line: Vec<String> =
            (0..).zip(&widths).map(|(i, width)| format!("{:width$}", cell(row, i))).collect();
        writeln!(out, "{}", line.join("  ").trim_end())?;
    }
    Ok(())
}

fn last_word(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

/// A value in a line: no quotes, no control characters.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => printable(text),
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(_) => value.to_string(),
    }
}

/// Text without what a terminal would take for commands; a new line becomes a space.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c == '\n' || c == '\t' { ' ' } else { c }).filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(value: &Value) -> String {
        let mut text = String::new();
        write_value(&mut text, value).unwrap();
        text
    }

    #[test]
    fn a_record_is_lines() {
        let value = json!({"state": "paused", "vmbus": {"in": 1}, "crash": null, "list": ["a", "b"]});
        assert_eq!(text(&value), "state     paused\nvmbus.in  1\ncrash     -\nlist      a, b\n");
    }

    #[test]
    fn records_are_a_table() {
        let rows = json!([{"name": "a", "on_bus": true}, {"name": "longer", "on_bus": false}]);
        assert_eq!(text(&rows), "name    on_bus\na       yes\nlonger  no\n");
        let nested = json!({"vcpus": [{"exits": {"io": 1, "msr": 20}}, {"exits": {"io": 300, "msr": 4}}]});
        assert_eq!(text(&nested), "vcpus\nio   msr\n1    20\n300  4\n");
    }

    #[test]
    fn a_guests_words_do_not_reach_the_terminal_as_commands() {
        assert_eq!(text(&json!({"crash": "a\u{1b}[2Jb\nc\r"})), "crash  a[2Jb c\n");
    }
}
