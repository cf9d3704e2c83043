//! What the files for Windows (resources/windows) must agree on with the lab, and with Windows.

use super::SHUTDOWN;

const SCRIPT: &str = include_str!("../../../../resources/windows/busman-check.ps1");
const ANSWERS: &str = include_str!("../../../../resources/windows/unattend.xml");
const README: &str = include_str!("../../../../resources/windows/README.md");

/// What the answers have in such an element, each time.
fn answers(element: &str) -> Vec<&'static str> {
    let (begin, end) = (format!("<{element}>"), format!("</{element}>"));
    ANSWERS.split(begin.as_str()).skip(1).filter_map(|rest| Some(rest.split_once(&end)?.0)).collect()
}

#[test]
fn the_script_does_not_shut_windows_down_while_the_host_waits_for_its_service() {
    let seconds = SCRIPT.lines().find_map(|line| line.strip_prefix("$SecondsForTheHost = ")).unwrap();
    assert!(seconds.parse::<u64>().unwrap() > SHUTDOWN.as_secs());
    let (_, end) = SCRIPT.split_once("Start-Sleep -Seconds $SecondsForTheHost\n").unwrap();
    assert!(end.starts_with("Send-Line 'busman-check: nobody shut Windows down'\nStop-Computer"), "{end}");
}

/// Windows' policy of complexity, which servers have from the start.
#[test]
fn windows_does_not_refuse_a_password_for_the_account_name_in_it() {
    let (names, passwords) = ([answers("Name"), answers("Username")].concat(), answers("Value"));
    assert_eq!((names.len(), passwords.len()), (2, 3));
    for password in passwords {
        assert!(README.contains(password), "README.md does not tell {password}");
        for name in names.iter().chain(&["Administrator"]) {
            assert!(!password.to_lowercase().contains(&name.to_lowercase()), "{password} contains {name}");
        }
    }
}

/// `$ErrorActionPreference` is `Stop`, so a cmdlet that finds nothing yet would end the search.
#[test]
fn a_partition_that_is_not_there_at_once_does_not_end_the_search_for_it() {
    let (_, search) = SCRIPT.split_once("for ($attempt = 0;").unwrap();
    let (search, _) = search.split_once("\n    }\n").unwrap();
    let cmdlets = ["Update-Disk ", "Get-Partition ", "Add-PartitionAccessPath "];
    for cmdlet in cmdlets {
        let line = search.lines().find(|line| line.contains(cmdlet)).unwrap();
        assert!(line.contains("-ErrorAction SilentlyContinue"), "{line}");
    }
}

#[test]
fn devices_of_an_earlier_hypervisor_are_not_counted() {
    let (_, rule) = SCRIPT.split_once("Invoke-Part 'devices' {").unwrap();
    let (rule, _) = rule.split_once("foreach").unwrap();
    // `-and` and `-or` are of one precedence there.
    assert!(rule.contains("{ (") && rule.contains(") -and $_.Present -ne $false }"), "{rule}");
}
