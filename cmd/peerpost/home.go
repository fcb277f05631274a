package main

import (
	"os"
	"path/filepath"
	"runtime"
)

// defaultHome is where the node keeps its things when nobody says otherwise:
// PEERPOST_HOME, or a place in the data folder of the system's user.
func defaultHome(getenv func(string) string) string {
	if home := getenv("PEERPOST_HOME"); home != "" {
		return home
	}
	user, err := os.UserHomeDir()
	if err != nil {
		user = "."
	}
	switch runtime.GOOS {
	case "windows":
		if dir := getenv("LocalAppData"); dir != "" {
			return filepath.Join(dir, "Peerpost")
		}
		return filepath.Join(user, "AppData", "Local", "Peerpost")
	case "darwin", "ios":
		return filepath.Join(user, "Library", "Application Support", "Peerpost")
	}
	if dir := getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "peerpost")
	}
	return filepath.Join(user, ".local", "share", "peerpost")
}
