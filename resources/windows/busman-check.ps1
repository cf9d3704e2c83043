# Looks at Windows from inside, for `cargo lab windows`: drivers, devices, services, disks.
#
# Runs as an administrator, in Windows PowerShell 5.1. It writes RESULTS.JSON to the disk whose serial number is
# BUSMAN-RESULTS (README.md beside this file says what is in it), says so on COM1, and waits for the host to shut
# Windows down; if the host does not, it says so and does it itself. A part that fails is an entry of "errors", and
# the rest goes on.

$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'

$ResultsSerial = 'BUSMAN-RESULTS'
# "BUSM", in the disk's partition table.
$ResultsSignature = 0x4D535542
# Longer than the host waits for a shutdown that it asked for, or its verdict would be of this script's own shutdown.
$SecondsForTheHost = 1200
$Drivers = 'vmbus', 'vmbkmcl', 'winhv', 'winhvr', 'storvsc', 'storport', 'netvsc', 'hyperkbd', 'VMBusHID',
    'HyperVideo', 'dmvsc', 'hvsocket', 'vmgencounter', 'vpci'

$results = [ordered]@{
    schema   = 1
    finished = $false
    system   = $null
    files    = @()
    services = @()
    devices  = @()
    disks    = @()
    errors   = @()
}

# A line on COM1, where the host listens. A guest without COM1 is not stopped by that.
function Send-Line([string] $Text) {
    try {
        $port = New-Object System.IO.Ports.SerialPort 'COM1', 115200
        $port.WriteTimeout = 5000
        $port.Open()
        $port.Write($Text + "`r`n")
        $port.BaseStream.Flush()
        Start-Sleep -Milliseconds 500
        $port.Close()
    } catch {
        return
    }
}

# Runs one part; what it fails with is kept.
function Invoke-Part([string] $Name, [scriptblock] $Part) {
    try {
        & $Part
    } catch {
        $results.errors += "${Name}: $($_.Exception.Message)"
    }
}

# Files of all loaded kernel modules. Newer Windows shows them only to those who may debug.
function Get-LoadedModule {
    Add-Type -Namespace BusmanCheck -Name Psapi -MemberDefinition @'
[DllImport("psapi.dll", SetLastError = true)]
public static extern bool EnumDeviceDrivers([Out] IntPtr[] bases, uint bytes, out uint needed);
[DllImport("psapi.dll", SetLastError = true, CharSet = CharSet.Unicode)]
public static extern uint GetDeviceDriverFileNameW(IntPtr address, System.Text.StringBuilder name, uint length);
'@
    [System.Diagnostics.Process]::EnterDebugMode()
    $bases = New-Object IntPtr[] 4096
    $needed = [uint32] 0
    $bytes = [uint32] ($bases.Length * [IntPtr]::Size)
    if (-not [BusmanCheck.Psapi]::EnumDeviceDrivers($bases, $bytes, [ref] $needed)) {
        throw 'EnumDeviceDrivers failed'
    }
    $count = [Math]::Min($bases.Length, [int] ($needed / [IntPtr]::Size))
    for ($i = 0; $i -lt $count; $i++) {
        $name = New-Object System.Text.StringBuilder 1024
        if ([BusmanCheck.Psapi]::GetDeviceDriverFileNameW($bases[$i], $name, 1024) -gt 0) {
            $path = $name.ToString() -replace '^\\\?\?\\', ''
            $path -replace '^\\SystemRoot', $env:SystemRoot
        }
    }
}

Send-Line 'busman-check: begins'

Invoke-Part 'system' {
    $os = Get-CimInstance Win32_OperatingSystem
    $computer = Get-CimInstance Win32_ComputerSystem
    $results.system = [ordered]@{
        name       = [string] $os.Caption
        version    = [string] $os.Version
        hypervisor = [bool] $computer.HypervisorPresent
    }
}

Invoke-Part 'files' {
    $loaded = @(Get-LoadedModule)
    foreach ($driver in $Drivers) {
        $path = $loaded | Where-Object { (Split-Path $_ -Leaf) -eq "$driver.sys" } | Select-Object -First 1
        $isLoaded = [bool] $path
        if (-not $path) {
            $path = Join-Path $env:SystemRoot "System32\drivers\$driver.sys"
        }
        if (-not (Test-Path -LiteralPath $path)) {
            continue
        }
        $signature = Get-AuthenticodeSignature -LiteralPath $path
        $signer = ''
        if ($signature.SignerCertificate) {
            $signer = [string] $signature.SignerCertificate.Subject
        }
        $results.files += [ordered]@{
            name      = "$driver.sys"
            path      = [string] $path
            version   = [string] (Get-Item -LiteralPath $path).VersionInfo.FileVersion
            loaded    = $isLoaded
            signature = [string] $signature.Status
            signer    = $signer
            sha256    = [string] (Get-FileHash -LiteralPath $path -Algorithm SHA256).Hash
        }
    }
}

Invoke-Part 'drivers' {
    foreach ($driver in Get-CimInstance Win32_SystemDriver | Where-Object { $Drivers -contains $_.Name }) {
        $results.services += [ordered]@{
            name  = [string] $driver.Name
            state = [string] $driver.State
            start = [string] $driver.StartMode
        }
    }
}

Invoke-Part 'services' {
    foreach ($service in Get-CimInstance Win32_Service | Where-Object { $_.Name -like 'vmic*' }) {
        $results.services += [ordered]@{
            name  = [string] $service.Name
            state = [string] $service.State
            start = [string] $service.StartMode
        }
    }
}

Invoke-Part 'devices' {
    # Windows remembers the devices of a hypervisor that it ran on before.
    $isOurs = { ($_.PNPDeviceID -like 'VMBUS\*' -or $_.PNPDeviceID -like 'ACPI\VMBUS*' -or
        $_.PNPDeviceID -like 'ACPI\MSFT1000*') -and $_.Present -ne $false }
    foreach ($device in Get-CimInstance Win32_PnPEntity | Where-Object $isOurs) {
        $results.devices += [ordered]@{
            id      = [string] $device.PNPDeviceID
            name    = [string] $device.Name
            class   = [string] $device.PNPClass
            service = [string] $device.Service
            problem = [int] $device.ConfigManagerErrorCode
        }
    }
}

Invoke-Part 'disks' {
    foreach ($disk in Get-Disk) {
        $results.disks += [ordered]@{
            name   = [string] $disk.FriendlyName
            serial = ([string] $disk.SerialNumber).Trim()
            bytes  = [uint64] $disk.Size
        }
    }
}

# Servers leave new disks offline; a letter may come by itself, or not at all.
function Get-ResultsFolder {
    $isOurs = { ([string] $_.SerialNumber).Trim() -eq $ResultsSerial -or $_.Signature -eq $ResultsSignature }
    $disk = Get-Disk | Where-Object $isOurs | Select-Object -First 1
    if (-not $disk) {
        throw "there is no disk with the serial number $ResultsSerial"
    }
    if ($disk.IsOffline) {
        Set-Disk -Number $disk.Number -IsOffline $false
    }
    if ((Get-Disk -Number $disk.Number).IsReadOnly) {
        Set-Disk -Number $disk.Number -IsReadOnly $false
    }
    for ($attempt = 0; $attempt -lt 10; $attempt++) {
        # A disk that was just brought online may show its partition a while later.
        Update-Disk -Number $disk.Number -ErrorAction SilentlyContinue
        $partition = Get-Partition -DiskNumber $disk.Number -ErrorAction SilentlyContinue | Select-Object -First 1
        if ($partition -and [char]::IsLetter($partition.DriveLetter)) {
            return "$($partition.DriveLetter):"
        }
        Start-Sleep -Seconds 2
        if ($partition -and $attempt -ge 2) {
            # Fails if it has got one meanwhile.
            $number = $partition.PartitionNumber
            $place = @{ DiskNumber = $disk.Number; PartitionNumber = $number }
            Add-PartitionAccessPath @place -AssignDriveLetter -ErrorAction SilentlyContinue
        }
    }
    throw "the disk with the serial number $ResultsSerial gets no drive letter"
}

$end = 'done'
try {
    $folder = Get-ResultsFolder
    $results.finished = $true
    $json = ConvertTo-Json ([pscustomobject] $results) -Depth 5
    $unfinished = "$folder\RESULTS.TMP"
    [System.IO.File]::WriteAllText($unfinished, $json, (New-Object System.Text.UTF8Encoding $false))
    Move-Item -LiteralPath $unfinished -Destination "$folder\RESULTS.JSON" -Force
    Write-VolumeCache -DriveLetter $folder[0]
} catch {
    $end = "cannot write the results: $($_.Exception.Message)"
}
Send-Line "busman-check: $end"

Start-Sleep -Seconds $SecondsForTheHost
Send-Line 'busman-check: nobody shut Windows down'
Stop-Computer -Force
