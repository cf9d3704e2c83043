//! What the control socket serves: methods, paths, and the command that each of them is.
//!
//! `resources/openapi.json` describes the same for users; a test holds the two together.

use std::fmt::Display;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use devices::ic::kvp::{IpInfo, Network, Pair};
use devices::ic::requests::GuestError;
use serde::Deserialize;
use serde::de::Error;

use super::Vm;
use super::http::{JSON, PNG, Request, Response};
use crate::control::{Answer, Command, GuestCommand, Outcome, Refusal};
use crate::disks::{Place, Unit, UnitError};
use crate::display::{DisplayRow, DisplaySize, Picture, ScreenshotError};
use crate::machine::MachineError;

/// The description that clients can fetch.
pub(super) const OPENAPI: &str = include_str!("../../resources/openapi.json");

/// What a request brings to its route.
pub(super) struct Call<'a> {
    /// What stands in the path for `{name}`.
    name: &'a str,
    body: &'a [u8],
}

/// What a route does.
pub(super) enum Action {
    /// It is a command.
    Command(ToCommand),
    /// It is a text.
    Text(&'static str),
}

/// A method of a path.
pub(super) struct Route {
    pub method: &'static str,
    /// May end with the segment `{name}`.
    pub path: &'static str,
    pub action: Action,
}

type ToCommand = fn(&Call<'_>) -> Result<Command, serde_json::Error>;

const fn command(method: &'static str, path: &'static str, command: ToCommand) -> Route {
    Route { method, path, action: Action::Command(command) }
}

/// Every route.
pub(super) const ROUTES: [Route; 38] = [
    command("GET", "/api/v1/vm", |call| call.plain(Command::State)),
    command("GET", "/api/v1/vm/config", |call| call.plain(Command::Config)),
    command("PUT", "/api/v1/vm/pause", |call| call.plain(Command::Pause)),
    command("PUT", "/api/v1/vm/resume", |call| call.plain(Command::Resume)),
    command("POST", "/api/v1/vm/generation", |call| call.plain(Command::NewGeneration)),
    command("PUT", "/api/v1/vm/shutdown", |call| call.now(Command::Shutdown, Command::Stop)),
    command("PUT", "/api/v1/vm/reboot", |call| call.now(Command::Reboot, Command::Reset)),
    command("PUT", "/api/v1/vm/hibernate", |call| call.plain(Command::Hibernate)),
    command("GET", "/api/v1/vm/channels", |call| call.plain(Command::Channels)),
    command("GET", "/api/v1/vm/counters", |call| call.plain(Command::Counters)),
    command("GET", "/api/v1/vm/devices", |call| call.plain(Command::Devices)),
    command("PUT", "/api/v1/vm/devices/{name}", |call| call.plain(Command::Add(call.name.to_owned()))),
    command("DELETE", "/api/v1/vm/devices/{name}", |call| call.plain(Command::Remove(call.name.to_owned()))),
    command("GET", "/api/v1/vm/disks", |call| call.plain(Command::Disks)),
    command("POST", "/api/v1/vm/disks", |call| Ok(Command::AddDisk(Unit::Disk(call.body()?)))),
    command("POST", "/api/v1/vm/dvds", |call| Ok(Command::AddDisk(Unit::Dvd(call.body()?)))),
    command("DELETE", "/api/v1/vm/disks/{name}", |call| {
        Ok(Command::RemoveDisk(call.place::<NoOptions>()?.0))
    }),
    command("PUT", "/api/v1/vm/discs/{name}", |call| {
        let (place, Disc { path }) = call.place()?;
        Ok(Command::Insert(place, path))
    }),
    command("DELETE", "/api/v1/vm/discs/{name}", |call| {
        let (place, Force { force }) = call.place()?;
        Ok(Command::Eject { place, force })
    }),
    command("GET", "/api/v1/vm/guest/values/{name}", |call| call.guest(GuestCommand::Pairs(call.parsed()?))),
    command("POST", "/api/v1/vm/guest/values/{name}", |call| {
        let Key { key } = call.body()?;
        Ok(Command::Guest(GuestCommand::Get(call.parsed()?, key)))
    }),
    command("PUT", "/api/v1/vm/guest/values/{name}", |call| {
        let NewPair { key, value } = call.body()?;
        Ok(Command::Guest(GuestCommand::Set(call.parsed()?, Pair { key, value })))
    }),
    command("DELETE", "/api/v1/vm/guest/values/{name}", |call| {
        let Key { key } = call.body()?;
        Ok(Command::Guest(GuestCommand::Unset(call.parsed()?, key)))
    }),
    command("GET", "/api/v1/vm/guest/addresses", |call| call.guest(GuestCommand::Addresses)),
    command("PUT", "/api/v1/vm/guest/addresses", |call| {
        let NewAddresses { adapter, dhcp, addresses, gateways, dns } = call.body()?;
        let adapter = adapter.parse().map_err(serde_json::Error::custom)?;
        Ok(Command::Guest(GuestCommand::SetAddresses(adapter, IpInfo { dhcp, addresses, gateways, dns })))
    }),
    command("GET", "/api/v1/vm/guest/adapters/{name}", |call| {
        call.guest(GuestCommand::Adapter(call.name.to_owned()))
    }),
    command("GET", "/api/v1/vm/guest/freeze", |call| call.guest(GuestCommand::Check)),
    command("PUT", "/api/v1/vm/guest/freeze", |call| {
        Ok(Command::Guest(GuestCommand::Freeze(call.options()?)))
    }),
    command("DELETE", "/api/v1/vm/guest/freeze", |call| call.guest(GuestCommand::Thaw)),
    command("GET", "/api/v1/vm/guest/copy", |call| call.guest(GuestCommand::CopyStatus)),
    command("PUT", "/api/v1/vm/guest/copy", |call| Ok(Command::Guest(GuestCommand::Copy(call.body()?)))),
    command("DELETE", "/api/v1/vm/guest/copy", |call| call.guest(GuestCommand::CancelCopy)),
    command("GET", "/api/v1/vm/display", |call| call.plain(Command::Display)),
    command("PUT", "/api/v1/vm/display", |call| {
        let Resolution { resolution } = call.body()?;
        Ok(Command::Resolution(resolution))
    }),
    command("GET", "/api/v1/vm/screen", |call| call.plain(Command::Screen)),
    command("PUT", "/api/v1/vm/keyboard", |call| {
        let Keys { keys } = call.body()?;
        Ok(Command::Key(keys.parse().map_err(serde_json::Error::custom)?))
    }),
    command("PUT", "/api/v1/vm/pointer", |call| Ok(Command::Pointer(call.body()?))),
    Route { method: "GET", path: "/api/v1/openapi.json", action: Action::Text(OPENAPI) },
];

/// The body of requests that leave nothing open.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoOptions {}

/// The body of requests that the guest may carry out, or not be asked about.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct How {
    /// At once; the guest is not asked.
    now: bool,
}

/// The body of requests that put a disc into a drive.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Disc {
    /// Its image.
    path: PathBuf,
}

/// The body of requests about one of the guest's values.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    key: String,
}

/// The body of requests that give the guest a value.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewPair {
    key: String,
    value: String,
}

/// The body of requests that set a network adapter's addresses.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewAddresses {
    /// GUID of the adapter's instance on the bus.
    adapter: String,
    #[serde(default)]
    dhcp: bool,
    #[serde(default)]
    addresses: Vec<Network>,
    #[serde(default)]
    gateways: Vec<IpAddr>,
    #[serde(default)]
    dns: Vec<IpAddr>,
}

/// The body of requests that take a disc out of a drive.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Force {
    /// Even if the guest has locked it.
    force: bool,
}

/// The body of requests for another resolution.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resolution {
    /// As in `1280x1024`.
    resolution: DisplaySize,
}

/// The body of requests that press keys.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    /// As in `ctrl-alt-delete`.
    keys: String,
}

impl<'a> Call<'a> {
    fn plain(&self, command: Command) -> Result<Command, serde_json::Error> {
        let NoOptions {} = self.options()?;
        Ok(command)
    }

    fn guest(&self, command: GuestCommand) -> Result<Command, serde_json::Error> {
        self.plain(Command::Guest(command))
    }

    fn now(&self, ask_guest: Command, at_once: Command) -> Result<Command, serde_json::Error> {
        let How { now } = self.options()?;
        Ok(if now { at_once } else { ask_guest })
    }

    /// The body; none at all leaves everything at its default.
    fn options<T: Deserialize<'a> + Default>(&self) -> Result<T, serde_json::Error> {
        if self.body.trim_ascii().is_empty() { Ok(T::default()) } else { self.body() }
    }

    /// The body.
    fn body<T: Deserialize<'a>>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(if self.body.trim_ascii().is_empty() { b"{}" } else { self.body })
    }

    /// What the path names.
    fn parsed<T: FromStr<Err: Display>>(&self) -> Result<T, serde_json::Error> {
        self.name.parse().map_err(serde_json::Error::custom)
    }

    /// The disk's place that the path names, and the body.
    fn place<T: Deserialize<'a>>(&self) -> Result<(Place, T), serde_json::Error> {
        Ok((self.parsed()?, self.body()?))
    }
}

/// Finds the request's route and goes it.
pub(super) fn respond(vm: &dyn Vm, request: &Request) -> Response {
    let fitting = || ROUTES.iter().filter_map(|route| Some((route, route.fit(&request.path)?)));
    let Some((route, name)) = fitting().find(|(route, _)| route.method == request.method) else {
        let allow: Vec<&str> = fitting().map(|(route, _)| route.method).collect();
        if allow.is_empty() {
            let sentence = format!(
                "There is nothing at {:?}; GET /api/v1/openapi.json tells what there is",
                request.path
            );
            return Response::error(404, &sentence);
        }
        let allow = allow.join(", ");
        let sentence = format!("{} is not for {}, which has {allow}", request.method, request.path);
        return Response { allow: Some(allow), ..Response::error(405, &sentence) };
    };
    match route.action {
        Action::Text(text) => Response::file(JSON, text.into()),
        Action::Command(command) => match command(&Call { name, body: &request.body }) {
            Ok(command) => outcome(vm.execute(command)),
            Err(error) => Response::error(400, &format!("The request is not understood: {error}")),
        },
    }
}

impl Route {
    /// What a path has in `{name}`'s place, or nothing if the route has none; `None` if it is another path.
    fn fit<'p>(&self, path: &'p str) -> Option<&'p str> {
        match self.path.strip_suffix("{name}") {
            Some(start) => path.strip_prefix(start).filter(|name| !name.is_empty() && !name.contains('/')),
            None => (path == self.path).then_some(""),
        }
    }
}

/// A command's outcome as a response.
fn outcome(outcome: Outcome) -> Response {
    match outcome {
        Ok(Answer::Done) => Response::empty(204),
        Ok(Answer::Asked(_) | Answer::AskedToEject | Answer::AskedToResize) => Response::empty(202),
        Ok(Answer::Generation(generation)) => Response::json(&generation),
        Ok(Answer::State(status)) => Response::json(&status),
        Ok(Answer::Config(config)) => Response::json(&config),
        Ok(Answer::Channels(rows)) => Response::json(&rows),
        Ok(Answer::Counters(counters)) => Response::json(&counters),
        Ok(Answer::Devices(rows)) => Response::json(&rows),
        Ok(Answer::Disks(rows)) => Response::json(&rows),
        Ok(Answer::Disk(row)) => Response::json(&row),
        Ok(Answer::Pairs(pairs)) => Response::json(&pairs),
        Ok(Answer::Pair(pair)) => Response::json(&pair),
        Ok(Answer::Addresses(addresses)) => Response::json(&addresses),
        Ok(Answer::Ip(info)) => Response::json(&info),
        Ok(Answer::Copy(status)) => Response::json(&status),
        Ok(Answer::Display(Picture(screen))) => Response::json(&DisplayRow::of(&*screen)),
        Ok(Answer::Screen(picture)) => photograph(&picture),
        Ok(Answer::Help) => Response::error(500, "Help is for terminals"),
        Err(refusal) => Response::error(status(&refusal), &refusal.sentence()),
    }
}

/// A screenshot; packing it is this thread's work and keeps nobody waiting.
fn photograph(picture: &Picture) -> Response {
    match picture.png() {
        Ok(file) => Response::file(PNG, file),
        Err(error @ ScreenshotError::Dark) => Response::error(409, &error.to_string()),
        Err(error) => Response::error(500, &error.to_string()),
    }
}

fn status(refusal: &Refusal) -> u16 {
    match refusal {
        Refusal::Device(MachineError::UnknownDevice { .. } | MachineError::NotThere(_)) => 404,
        Refusal::Device(
            MachineError::AlreadyThere(_) | MachineError::Disk(UnitError::InUse(_) | UnitError::LettingGo(_)),
        )
        | Refusal::NoShutdownDevice(_)
        | Refusal::NotListening { .. }
        | Refusal::Paused(_)
        | Refusal::NoGuestService(_)
        | Refusal::GuestPaused
        | Refusal::Source { .. }
        | Refusal::Resumed => 409,
        Refusal::Guest(GuestError::Invalid(_) | GuestError::TooLong { .. }) => 400,
        Refusal::Guest(GuestError::Busy) => 503,
        Refusal::Guest(GuestError::NoAnswer(_)) => 504,
        Refusal::Guest(_) => 409,
        Refusal::Resolution(_) => 409,
        Refusal::Disk(UnitError::Absent(_)) => 404,
        Refusal::Disk(UnitError::Bus { .. }) | Refusal::Device(_) => 500,
        Refusal::Disk(_) => 409,
        Refusal::Ended | Refusal::Busy => 503,
        Refusal::Late(_) => 504,
    }
}
