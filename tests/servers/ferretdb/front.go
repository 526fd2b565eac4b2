package main

import (
	"encoding/binary"
	"io"
	"net"
	"sync"

	"go.mongodb.org/mongo-driver/bson"
)

// The longest message of the wire protocol.
const longest = 48_000_000

// OP_MSG, the one kind of message that today's drivers send, and where its body begins: after the
// header, the flags and the kind of the first section.
const (
	opMsg     = 2013
	bodyStart = 16 + 4 + 1
)

// FerretDB's SQLite backend does not change a document in one step: of fifty compare-and-swap
// updates at once two to six won, of fifty increments one to eight counted. With a turn for each
// command, one after the other, every one of them is atomic, as MongoDB's are.
var turn sync.Mutex

func serve(driver net.Conn, socket string) {
	defer driver.Close()
	backend, err := net.Dial("unix", socket)
	if err != nil {
		return
	}
	defer backend.Close()
	for {
		request, err := read(driver)
		if err != nil {
			return
		}
		request, wanted := understood(request)
		answer, err := ask(backend, request)
		if err != nil {
			return
		}
		if wanted != nil {
			answer = projected(answer, wanted)
		}
		if _, err := driver.Write(answer); err != nil {
			return
		}
	}
}

func ask(backend net.Conn, request []byte) ([]byte, error) {
	turn.Lock()
	defer turn.Unlock()
	if _, err := backend.Write(request); err != nil {
		return nil, err
	}
	return read(backend)
}

// read takes one message: its length, header included, comes first.
func read(from io.Reader) ([]byte, error) {
	head := make([]byte, 4)
	if _, err := io.ReadFull(from, head); err != nil {
		return nil, err
	}
	length := binary.LittleEndian.Uint32(head)
	if length < 16 || length > longest {
		return nil, io.ErrUnexpectedEOF
	}
	message := make([]byte, length)
	copy(message, head)
	_, err := io.ReadFull(from, message[4:])
	return message, err
}

// understood takes out what FerretDB refuses as not implemented: expireAfterSeconds of an index
// (so that nothing expires) and fields of findAndModify, which are returned for projected.
func understood(request []byte) ([]byte, map[string]bool) {
	command, ok := body(request)
	if !ok || len(command) == 0 {
		return request, nil
	}
	switch command[0].Key {
	case "findAndModify":
		for place, field := range command {
			if names, ok := included(field.Value); field.Key == "fields" && ok {
				rest := append(command[:place:place], command[place+1:]...)
				return withBody(request, rest), names
			}
		}
	case "createIndexes":
		for _, field := range command {
			indexes, _ := field.Value.(bson.A)
			for place, index := range indexes {
				options, _ := index.(bson.D)
				for number, option := range options {
					if option.Key == "expireAfterSeconds" {
						indexes[place] = append(options[:number:number], options[number+1:]...)
					}
				}
			}
		}
		return withBody(request, command), nil
	}
	return request, nil
}

// included says which fields a projection of the plainest kind, {"name": 1}, asks for.
func included(projection any) (map[string]bool, bool) {
	fields, ok := projection.(bson.D)
	names := map[string]bool{"_id": true}
	for _, field := range fields {
		names[field.Key] = true
		ok = ok && field.Value == int32(1)
	}
	return names, ok
}

func projected(answer []byte, wanted map[string]bool) []byte {
	reply, ok := body(answer)
	if !ok {
		return answer
	}
	for place, field := range reply {
		document, ok := field.Value.(bson.D)
		if field.Key != "value" || !ok {
			continue
		}
		kept := bson.D{}
		for _, field := range document {
			if wanted[field.Key] {
				kept = append(kept, field)
			}
		}
		reply[place].Value = kept
	}
	return withBody(answer, reply)
}

// body is the message's one section; messages with several (inserts, updates) are left alone.
func body(message []byte) (bson.D, bool) {
	if len(message) < bodyStart+4 || binary.LittleEndian.Uint32(message[12:]) != opMsg ||
		message[bodyStart-1] != 0 ||
		int(binary.LittleEndian.Uint32(message[bodyStart:])) != len(message)-bodyStart {
		return nil, false
	}
	var document bson.D
	err := bson.Unmarshal(message[bodyStart:], &document)
	return document, err == nil
}

func withBody(message []byte, document bson.D) []byte {
	encoded, err := bson.Marshal(document)
	if err != nil {
		return message
	}
	changed := append(append([]byte{}, message[:bodyStart]...), encoded...)
	binary.LittleEndian.PutUint32(changed, uint32(len(changed)))
	return changed
}
