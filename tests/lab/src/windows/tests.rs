//! What the files for Windows (resources/windows) must agree on with the lab, and with Windows.

use super::SHUTDOWN;

const SCRIPT: &str = include_str!("../../../../resources/windows/busman-check.ps1");

#[test]
fn the_script_does_not_shut_windows_down_while_the_host_waits_for_its_service() {
    let seconds = SCRIPT.lines().find_map(|line| line.strip_prefix("$SecondsForTheHost = ")).unwrap();
    assert!(seconds.parse::<u64>().unwrap() > SHUTDOWN.as_secs());
    let (_, end) = SCRIPT.split_once("Start-Sleep -Seconds $SecondsForTheHost\n").unwrap();
    assert!(end.starts_with("Send-Line 'busman-check: nobody shut Windows down'\nStop-Computer"), "{end}");
}
