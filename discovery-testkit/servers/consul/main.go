// Command consul is a current Consul for the tests, put together from its public command packages; scripts/servers
// builds it.
//
// From 1.17 on those packages are under the Business Source License: what is built here is run by tests on the machine
// that built it, and is never shipped.
package main

import (
	"fmt"
	"io"
	"log"
	"os"

	"github.com/hashicorp/consul/command"
	"github.com/hashicorp/consul/command/cli"
	"github.com/hashicorp/consul/command/version"
	mcli "github.com/mitchellh/cli"
)

func main() {
	// The agent has a logger of its own; the standard one carries its libraries' chatter.
	log.SetOutput(io.Discard)

	ui := &cli.BasicUI{BasicUi: mcli.BasicUi{Writer: os.Stdout, ErrorWriter: os.Stderr}}
	program := mcli.NewCLI("consul", "")
	program.Args = os.Args[1:]
	program.Commands = command.RegisteredCommands(ui)
	if program.IsVersion() {
		os.Exit(version.New(ui).Run(nil))
	}
	status, err := program.Run()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(status)
}
