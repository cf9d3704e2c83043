//! A swtpm that is played: it tells what it was told, and answers what the test says.

use std::fs::File;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use vmm_sys_util::sock_ctrl_msg::ScmSocket;
use vmm_sys_util::tempdir::TempDir;

use super::{SUCCESS, Service, TpmSource};

/// What a played swtpm was told.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    Control(u32),
    Command(Vec<u8>),
}

/// A swtpm that is played: it takes one client after the other.
pub struct Played {
    directory: TempDir,
    told: Receiver<Told>,
    /// Its end of the last control channel.
    control: Arc<Mutex<Option<UnixStream>>>,
    /// What it answers to commands; it goes away instead of an answer that is empty.
    answers: Sender<Vec<u8>>,
}

impl Played {
    /// What it says it can do, and what it answers to startups and shutdowns.
    pub fn new(capabilities: u32, startup: [u8; 10]) -> Self {
        let directory = TempDir::new_with_prefix("/tmp/busman-tpm").unwrap();
        let listener = UnixListener::bind(directory.as_path().join("socket")).unwrap();
        let (tell, told) = mpsc::channel();
        let (answers, queue) = mpsc::channel();
        let commands = Commands { startup, tell, answers: Arc::new(Mutex::new(queue)) };
        let control = Arc::<Mutex<Option<UnixStream>>>::default();
        let last = Arc::clone(&control);
        thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                *last.lock().unwrap() = Some(client.try_clone().unwrap());
                serve(&client, capabilities, &commands);
            }
        });
        Played { directory, told, control, answers }
    }

    /// A TPM 2.0 that can do everything.
    pub fn good() -> Self {
        Self::new(0xffff, SUCCESS)
    }

    pub fn source(&self) -> TpmSource {
        TpmSource::Socket(self.directory.as_path().join("socket"))
    }

    pub fn start(&self) -> Service {
        Service::start(&self.source()).unwrap()
    }

    pub fn answer(&self, response: &[u8]) {
        self.answers.send(response.to_vec()).unwrap();
    }

    /// Goes away, while nobody asks it anything; another one may be found.
    pub fn die(&self) {
        self.control.lock().unwrap().take().unwrap().shutdown(Shutdown::Both).unwrap();
    }

    /// All up to and with this.
    pub fn until(&self, last: &Told) -> Vec<Told> {
        let mut all = Vec::new();
        while all.last() != Some(last) {
            all.push(self.told.recv_timeout(Duration::from_secs(60)).unwrap());
        }
        all
    }
}

#[derive(Clone)]
struct Commands {
    startup: [u8; 10],
    tell: Sender<Told>,
    answers: Arc<Mutex<Receiver<Vec<u8>>>>,
}

/// The control channel of one client.
fn serve(mut control: &UnixStream, capabilities: u32, commands: &Commands) {
    let mut word = [0; 4];
    while let Ok((4, data)) = control.recv_with_fd(&mut word) {
        let request = u32::from_be_bytes(word);
        let _ = commands.tell.send(Told::Control(request));
        if [0x02, 0x11].contains(&request) {
            control.read_exact(&mut [0; 4]).unwrap();
        }
        if let Some(data) = data {
            let commands = commands.clone();
            thread::spawn(move || carry_out(data, &commands));
        }
        let words: &[u32] = match request {
            0x01 => &[0, capabilities],
            0x11 => &[0, 4096, 1024, 4096],
            _ => &[0],
        };
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        let _ = control.write_all(&bytes);
    }
}

/// The commands of one client.
fn carry_out(data: File, commands: &Commands) {
    let mut data = UnixStream::from(OwnedFd::from(data));
    let mut command = vec![0; 10];
    while data.read_exact(&mut command).is_ok() {
        let size = u32::from_be_bytes(command[2..6].try_into().unwrap());
        command.resize(size as usize, 0);
        data.read_exact(&mut command[10..]).unwrap();
        let answer = match command[9] {
            0x44 | 0x45 => commands.startup.to_vec(),
            _ => {
                commands.tell.send(Told::Command(command)).unwrap();
                commands.answers.lock().unwrap().recv().unwrap_or_default()
            }
        };
        if answer.is_empty() || data.write_all(&answer).is_err() {
            return;
        }
        command = vec![0; 10];
    }
}
