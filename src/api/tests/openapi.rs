//! `resources/openapi.json` and the server say the same.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::time::Duration;

use devices::ic::requests::GuestError;
use devices::ic::shutdown::ShutdownKind;
use serde_json::Value;

use super::schema::{check, resolve};
use super::{Fixture, Refusal};
use crate::api::routes::{OPENAPI, ROUTES};
use crate::disks::{Place, PlaceError, UnitError};
use crate::machine::MachineError;

/// What a path's description has besides methods.
const NO_METHOD: &str = "parameters";

fn document() -> Value {
    serde_json::from_str(OPENAPI).unwrap()
}

/// Every method of every path, with its description.
fn operations(document: &Value) -> Vec<(String, String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    let methods = |(path, item): (&String, &'_ Value)| {
        let methods: Vec<String> =
            item.as_object().unwrap().keys().filter(|key| *key != NO_METHOD).cloned().collect();
        (path.clone(), methods)
    };
    paths
        .iter()
        .map(methods)
        .flat_map(|(path, methods)| methods.into_iter().map(move |method| (path.clone(), method)))
        .map(|(path, method)| {
            let operation = &document["paths"][&path][&method];
            (method.to_uppercase(), path, operation)
        })
        .collect()
}

/// Calls a described operation and holds what comes against its description; gives the status.
fn call(
    api: &Fixture,
    document: &Value,
    (method, path, operation): &(String, String, &Value),
    body: &str,
) -> u16 {
    let name = document["paths"][path]["parameters"][0]["example"].as_str().unwrap_or_default();
    let (status, answer) = api.call(method, &path.replace("{name}", name), body);
    let what = format!("{method} {path} {status}");
    let mut response = &operation["responses"][status.to_string()];
    assert!(response.is_object(), "{what} is not described");
    if let Some(reference) = response.get("$ref") {
        response = resolve(document, reference);
    }
    match response.pointer("/content/application~1json/schema") {
        Some(schema) => check(document, schema, &answer, &what).unwrap(),
        None if response.pointer("/content/image~1png").is_some() => {
            assert!(answer.as_str().unwrap().starts_with("\u{fffd}PNG\r\n"), "{what} is no PNG");
        }
        None => assert_eq!(answer, Value::Null, "{what} has a body"),
    }
    status
}

/// A body that the operation takes: the example, or none.
fn body((.., operation): &(String, String, &Value)) -> String {
    let example = operation.pointer("/requestBody/content/application~1json/example");
    example.map(Value::to_string).unwrap_or_default()
}

#[test]
fn every_route_is_described_and_every_description_is_served() {
    let document = document();
    let described: BTreeSet<_> =
        operations(&document).into_iter().map(|(method, path, _)| (method, path)).collect();
    let served: BTreeSet<_> =
        ROUTES.iter().map(|route| (route.method.to_owned(), route.path.to_owned())).collect();
    assert_eq!(described, served);
    let ids: BTreeSet<_> =
        operations(&document).iter().map(|(.., operation)| operation["operationId"].to_string()).collect();
    assert_eq!(ids.len(), ROUTES.len(), "operation ids are unique");
}

#[test]
fn every_answer_is_what_its_schema_says() {
    let (api, document) = (Fixture::new(), document());
    for operation in &operations(&document) {
        let status = call(&api, &document, operation, &body(operation));
        assert!((200..300).contains(&status), "{} {}: {status}", operation.0, operation.1);
    }
}

#[test]
fn every_described_body_is_accepted_and_no_other() {
    let (api, document) = (Fixture::new(), document());
    for operation in &operations(&document) {
        let Some(reference) = operation.2.pointer("/requestBody/content/application~1json/schema/$ref")
        else {
            continue;
        };
        let schema = resolve(&document, reference);
        for body in ["{}", r#"{"now":true}"#, r#"{"now":false}"#, r#"{"now":1}"#, r#"{"x":1}"#, "1"] {
            let fits = check(&document, schema, &serde_json::from_str(body).unwrap(), "").is_ok();
            let status = call(&api, &document, operation, body);
            assert_eq!(status != 400, fits, "{} {} {body}: {status}", operation.0, operation.1);
        }
    }
}

#[test]
fn every_error_is_what_its_schema_says() {
    let (api, document) = (Fixture::new(), document());
    let everywhere: [fn() -> Refusal; 3] = [|| Refusal::Ended, || Refusal::Busy, || Refusal::Late(5)];
    for operation in operations(&document).iter().filter(|(_, path, _)| path != "/api/v1/openapi.json") {
        for refusal in everywhere {
            api.vm.refuse.lock().unwrap().push(refusal());
            assert!(call(&api, &document, operation, &body(operation)) >= 500);
        }
        assert_eq!(call(&api, &document, operation, "no JSON"), 400);
    }
    let (kind, place) = (ShutdownKind::PowerOff, Place { controller: 0, lun: 1 });
    for (id, refusal) in [
        ("pause", Refusal::Resumed),
        ("shutdown", Refusal::Paused(kind)),
        ("reboot", Refusal::NoShutdownDevice(kind)),
        ("hibernate", Refusal::Paused(kind)),
        ("addDevice", Refusal::Device(MachineError::UnknownDevice { name: "x".into() })),
        ("addDevice", Refusal::Device(MachineError::AlreadyThere("x".into()))),
        ("addDevice", Refusal::Device(MachineError::Resources(ErrorKind::Other.into()))),
        ("removeDevice", Refusal::Device(MachineError::NotThere("x".into()))),
        ("removeDevice", Refusal::Device(MachineError::Disk(UnitError::InUse(place)))),
        ("addDisk", Refusal::Disk(UnitError::Place(PlaceError::Full(0)))),
        ("addDvd", Refusal::Disk(UnitError::Place(PlaceError::Full(0)))),
        ("removeDisk", Refusal::Disk(UnitError::Absent(place))),
        ("insertDisc", Refusal::Disk(UnitError::NotADrive(place))),
        ("ejectDisc", Refusal::Disk(UnitError::Absent(place))),
        ("getValues", Refusal::Guest(GuestError::NotListening("hv_kvp_daemon"))),
        ("setValue", Refusal::Guest(GuestError::TooLong { what: "It", max: 1, unit: "" })),
        ("getAddresses", Refusal::NoGuestService("kvp")),
        ("getAdapter", Refusal::Guest(GuestError::Nonsense("x".into()))),
        ("setAddresses", Refusal::Guest(GuestError::Invalid("x"))),
        ("freeze", Refusal::Guest(GuestError::NoAnswer(Duration::ZERO))),
        ("thaw", Refusal::GuestPaused),
        ("copyFile", Refusal::Source { path: "x".into(), source: ErrorKind::NotFound.into() }),
        ("cancelCopy", Refusal::Guest(GuestError::Busy)),
        ("getDisplay", Refusal::Device(MachineError::NotThere("video".into()))),
        ("getScreen", Refusal::Device(MachineError::NotThere("video".into()))),
        ("pressKeys", Refusal::Device(MachineError::NotThere("keyboard".into()))),
        ("movePointer", Refusal::Device(MachineError::NotThere("mouse".into()))),
    ] {
        let operations = operations(&document);
        let operation = operations.iter().find(|(.., operation)| operation["operationId"] == id).unwrap();
        api.vm.refuse.lock().unwrap().push(refusal);
        assert!(call(&api, &document, operation, &body(operation)) >= 400, "{id}");
    }
}
