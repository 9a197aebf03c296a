"""Errors of adapters: those that can't be used (exit 2), and what one did wrong while it ran (exit 1)."""

from __future__ import annotations

from cogbuild.errors import CogbuildError

__all__ = [
    "AdapterDirectoryMissing",
    "AdapterExited",
    "AdapterFilesMoved",
    "AdapterKilled",
    "AdapterLacks",
    "AdapterLost",
    "AdapterNotStarted",
    "AdapterOutOfMemory",
    "AdapterTimedOut",
    "ArtifactBothWays",
    "ArtifactHoldsSecret",
    "ArtifactInWorkspace",
    "ArtifactLineAbsent",
    "ArtifactLineNotText",
    "ArtifactLineTooMany",
    "ArtifactLineUnreadable",
    "ArtifactNameTwice",
    "ArtifactNoRoom",
    "ArtifactOutputMissing",
    "ArtifactsFileWrong",
    "FidelityFileWrong",
    "InterpreterSilent",
    "LinkLeavesAdapter",
    "ModelFilesMoved",
    "NeedsCircle",
    "NeedsNobody",
    "NoAdapterFile",
    "NoAdapters",
    "NoScriptInterpreter",
    "ScriptHasNoInterpreter",
    "ScriptHasWindowsLines",
    "ScriptMissing",
    "ScriptNotExecutable",
    "SpecialFileOfAdapter",
    "TestRefused",
    "TwoAdaptersOneName",
    "UnknownAdapter",
    "UnknownBuiltin",
    "ValueNotPassable",
]


# -- before anything runs (exit 2) --------------------------------------------------------------------------------


class NoAdapters(CogbuildError):
    headline = "no adapter is active"
    hint = "name some under adapters: in cogbuild.yaml, e.g. builtin:archive, or bring one with --adapter-dir DIR"


class UnknownAdapter(CogbuildError):
    headline = "no adapter is called {name}"
    hint = "list them with `cogbuild adapters ls`"


class UnknownBuiltin(CogbuildError):
    headline = "cogbuild ships no adapter called {name}"


class AdapterDirectoryMissing(CogbuildError):
    headline = "there is no adapter directory {directory}"
    hint = "correct it under adapters: in cogbuild.yaml, or in --adapter-dir"


class NoAdapterFile(CogbuildError):
    headline = "{directory} is not an adapter: it has no cog-adapter.yaml"
    hint = "make one with `cogbuild adapters new NAME`"


class LinkLeavesAdapter(CogbuildError):
    headline = "the symlink {link} leads out of the adapter's directory"
    hint = "put a copy of the file itself there: what lies outside does not count and may not be there for the script"


class SpecialFileOfAdapter(CogbuildError):
    headline = "{file} is {kind}; an adapter's directory holds files, directories and symlinks only"
    hint = "remove it"


class TwoAdaptersOneName(CogbuildError):
    headline = "two adapters are called {name}"
    hint = "give one another name: in its cog-adapter.yaml"


class NeedsCircle(CogbuildError):
    headline = "adapters need each other in a circle"


class NeedsNobody(CogbuildError):
    headline = "adapter {adapter} needs {needed}, and no active adapter is called so"
    hint = "add {needed} to adapters: in cogbuild.yaml, or take it from needs:"


class ScriptMissing(CogbuildError):
    headline = "adapter {adapter} names a file that is not there"


class ScriptNotExecutable(CogbuildError):
    headline = "the script of adapter {adapter} is not executable"
    hint = "chmod +x {script}"


class ScriptHasNoInterpreter(CogbuildError):
    headline = "the script of adapter {adapter} names an interpreter that is not there"
    hint = "install it, or correct the script's first line"


class InterpreterSilent(CogbuildError):
    headline = "the interpreter of adapter {adapter} does not say its version"
    hint = "it has to end by itself when it is called with --version"


class ScriptHasWindowsLines(CogbuildError):
    headline = "the lines of adapter {adapter}'s script end as on Windows, so its interpreter is not found"
    hint = "sed -i 's/\\r$//' {script}"


class NoScriptInterpreter(CogbuildError):
    headline = "the script of adapter {adapter} says no interpreter"
    hint = "begin it with a line such as #!/bin/sh or #!/usr/bin/env python3"


# -- while it ran (exit 1) ----------------------------------------------------------------------------------------


class RunError(CogbuildError):
    """Something one attempt did wrong; ``pair`` and ``log`` are among the facts."""

    exit_code = 1


class AdapterLacks(RunError):
    headline = "{adapter} lacks what it can't work without on {model}"
    hint = "`cogbuild doctor` says this of all active adapters"


class AdapterExited(RunError):
    headline = "{adapter} failed on {model} after {took}"

    @property
    def advice(self) -> str:
        """What 100 says where it is agreed upon; with ``api: 1`` it is no failure at all."""
        if str(self.facts.get("status")) != "100":
            return super().advice
        return "100 says that an adapter does not apply to a model where its cog-adapter.yaml has api: 1"


class AdapterKilled(RunError):
    headline = "{adapter} was ended by {signal} on {model} after {took}"


class AdapterTimedOut(RunError):
    headline = "{adapter} took longer than {limit} on {model} and was ended"
    hint = "give it more time with timeout: in its cog-adapter.yaml"


class AdapterOutOfMemory(RunError):
    headline = "{adapter} ran out of memory on {model} after {took}"
    hint = "run fewer at once with -j, or give the machine more memory"


class AdapterLost(RunError):
    headline = "the worker that ran {adapter} on {model} died"


class AdapterNotStarted(RunError):
    headline = "{adapter} could not be started on {model}"


class ValueNotPassable(RunError):
    headline = "{adapter} can't be given {variable}: its value is no text that a process can take"


class ArtifactLineAbsent(RunError):
    headline = "{adapter} ended well on {model} but printed no artifact URI"
    hint = "print one line on stdout: a URI, or a path below $COG_OUTPUT_DIR"


class ArtifactLineTooMany(RunError):
    headline = "{adapter} printed {lines} lines on {model}, one was expected"
    hint = "print only the artifact's URI on stdout, and everything else on stderr"


class ArtifactLineNotText(RunError):
    headline = "{adapter} printed bytes that are not UTF-8 on {model}"


class ArtifactLineUnreadable(RunError):
    headline = "{adapter} printed something that is no artifact URI on {model}"
    hint = "print a path below $COG_OUTPUT_DIR, scheme:…, or an image reference such as host/name:tag"


class ArtifactInWorkspace(RunError):
    headline = "{adapter} named a file in its workspace on {model}, and the workspace is gone by now"
    hint = "write the artifact into $COG_OUTPUT_DIR, or upload it and print where it is"


class ArtifactOutputMissing(RunError):
    headline = "{adapter} ended well on {model} but what it named is not there"
    hint = "give the file its final name, or print the name it has"


class ArtifactNoRoom(RunError):
    headline = "there is no room on the disk for what {adapter} made of {model}"
    hint = "make room, e.g. with `cogbuild cache gc`, and run it again"


class ArtifactBothWays(RunError):
    headline = "{adapter} named artifacts on stdout and in $COG_ARTIFACTS_FILE on {model}"
    hint = "use one of the two"


class ArtifactHoldsSecret(RunError):
    headline = "{adapter} named an artifact of {model} with the value of a secret variable in it"
    hint = "name it without: names and URIs are recorded and shown"


class ArtifactNameTwice(RunError):
    headline = "{adapter} named the artifact {name} twice on {model}"


class ArtifactsFileWrong(RunError):
    headline = "{adapter} wrote a line into $COG_ARTIFACTS_FILE that can't be read on {model}"
    hint = 'each line is JSON such as {{"name": "encoder", "uri": "encoder.onnx"}}'


class FidelityFileWrong(RunError):
    headline = "{adapter} or its test wrote a line into $COG_FIDELITY_FILE that can't be read on {model}"
    hint = "let `report_fidelity` of the kit write it, or see docs/adapters.md"


class TestRefused(RunError):
    headline = "the test of {adapter} refused what it made of {model}"


class ModelFilesMoved(RunError):
    headline = "{model} changed while {adapter} ran; nothing was recorded"
    hint = "run it again when nothing writes there"


class AdapterFilesMoved(RunError):
    headline = "adapter {adapter} changed while it ran on {model}; nothing was recorded"
    hint = "run it again when nothing writes there"
